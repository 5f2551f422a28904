/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_safetensors.c - checks the JSON header of a safetensors file. The text comes from strangers:
 * its size is bounded by dcae_json_parse(), and every product is checked. It never sees the data
 * section.
 */
#include "dcae.h"
#include "dcae_json.h"

#include <string.h>

#define MAX_HEADER_SIZE (100u * 1000 * 1000) /* the limit of the reference implementation */
#define MAX_TYPE_NAME 32                     /* keeps messages that quote it readable */

struct _DcaeSafetensorsHeader {
    JsonNode *root; /* owns all strings */
    JsonObject *metadata;
    GArray *tensors;     /* DcaeTensor, by begin, then end */
    GHashTable *by_name; /* name -> DcaeTensor *, into tensors */
    guint64 data_size;
};

/* What one call of the parser works on. */
typedef struct {
    DcaeSafetensorsHeader *header;
    const char *name;
    GError **error;
} Parser;

static const struct {
    const char *name;
    guint bits;
    DcaeDtype dtype;
} dtypes[] = {
    {"F32", 32, DCAE_DTYPE_F32},      {"F16", 16, DCAE_DTYPE_F16},
    {"BF16", 16, DCAE_DTYPE_BF16},    {"F64", 64, DCAE_DTYPE_F64},
    {"I64", 64, DCAE_DTYPE_I64},      {"I32", 32, DCAE_DTYPE_I32},
    {"BOOL", 8, DCAE_DTYPE_OTHER},    {"U8", 8, DCAE_DTYPE_OTHER},
    {"I8", 8, DCAE_DTYPE_OTHER},      {"F8_E5M2", 8, DCAE_DTYPE_OTHER},
    {"F8_E4M3", 8, DCAE_DTYPE_OTHER}, {"F8_E8M0", 8, DCAE_DTYPE_OTHER},
    {"I16", 16, DCAE_DTYPE_OTHER},    {"U16", 16, DCAE_DTYPE_OTHER},
    {"U32", 32, DCAE_DTYPE_OTHER},    {"U64", 64, DCAE_DTYPE_OTHER},
    {"C64", 64, DCAE_DTYPE_OTHER},    {"F4", 4, DCAE_DTYPE_OTHER},
    {"F6_E2M3", 6, DCAE_DTYPE_OTHER}, {"F6_E3M2", 6, DCAE_DTYPE_OTHER},
};

G_GNUC_PRINTF(2, 3)
static gboolean fail(Parser *parser, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(parser->error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: %s", parser->name, text);
    g_free(text);
    return FALSE;
}

static gboolean read_metadata(Parser *parser, JsonNode *node)
{
    JsonObjectIter iter;
    const char *key;
    JsonObject *metadata = dcae_json_object(node);
    if (!metadata)
        return fail(parser, "__metadata__ is no object");
    json_object_iter_init(&iter, metadata);
    while (json_object_iter_next(&iter, &key, &node))
        if (!dcae_json_string(node))
            return fail(parser, "'%s' in __metadata__ is no string", key);
    parser->header->metadata = metadata;
    return TRUE;
}

static gboolean read_dtype(Parser *parser, JsonNode *node, DcaeTensor *tensor)
{
    const char *name = dcae_json_string(node);
    if (!name || strlen(name) > MAX_TYPE_NAME)
        return fail(parser, "the dtype of tensor '%s' is no name of a type", tensor->name);
    tensor->dtype = DCAE_DTYPE_OTHER;
    tensor->dtype_name = name;
    for (guint i = 0; i < G_N_ELEMENTS(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0)
            tensor->dtype = dtypes[i].dtype;
    return TRUE;
}

/* Reads an array of at most max whole numbers; *n receives how many there are. */
static gboolean read_numbers(Parser *parser, JsonNode *node, const DcaeTensor *tensor,
                             const char *key, guint64 *numbers, guint max, guint *n)
{
    JsonArray *array = dcae_json_array(node);
    if (!array)
        return fail(parser, "the %s of tensor '%s' is no array", key, tensor->name);
    *n = json_array_get_length(array);
    if (*n > max)
        return fail(parser, "the %s of tensor '%s' has more than %u entries", key, tensor->name,
                    max);
    for (guint i = 0; i < *n; i++)
        if (!dcae_json_uint(json_array_get_element(array, i), &numbers[i]))
            return fail(parser, "the %s of tensor '%s' has an entry that is no whole number from 0",
                        key, tensor->name);
    return TRUE;
}

/* Does shape × dtype fill the bytes that the offsets give? */
static gboolean check_extent(Parser *parser, const DcaeTensor *tensor)
{
    guint bits = 0;
    guint64 total = 1;
    if (tensor->begin > tensor->end)
        return fail(parser, "tensor '%s' ends before it begins", tensor->name);
    for (guint i = 0; i < G_N_ELEMENTS(dtypes); i++)
        if (strcmp(dtypes[i].name, tensor->dtype_name) == 0)
            bits = dtypes[i].bits;
    if (bits == 0)
        return TRUE;
    gboolean empty = FALSE;
    for (guint i = 0; i < tensor->rank; i++)
        empty |= tensor->shape[i] == 0;
    for (guint i = 0; i < tensor->rank && !empty; i++)
        if (!g_uint64_checked_mul(&total, total, tensor->shape[i]))
            return fail(parser, "the shape of tensor '%s' overflows", tensor->name);
    if (!g_uint64_checked_mul(&total, empty ? 0 : total, bits))
        return fail(parser, "the shape of tensor '%s' overflows", tensor->name);
    guint64 bytes = total / 8 + (total % 8 != 0);
    if (bytes != tensor->end - tensor->begin)
        return fail(parser,
                    "tensor '%s' needs %" G_GUINT64_FORMAT
                    " bytes by its shape and type, its data_offsets give %" G_GUINT64_FORMAT,
                    tensor->name, bytes, tensor->end - tensor->begin);
    return TRUE;
}

static gboolean read_tensor(Parser *parser, const char *name, JsonNode *node)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    DcaeTensor tensor = {.name = name};
    guint64 offsets[2];
    guint n;
    JsonObject *object = dcae_json_object(node);
    if (!object)
        return fail(parser, "tensor '%s' is no object", name);
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!json_object_has_member(object, keys[i]))
            return fail(parser, "tensor '%s' lacks its %s", name, keys[i]);
    if (!read_dtype(parser, json_object_get_member(object, keys[0]), &tensor) ||
        !read_numbers(parser, json_object_get_member(object, keys[1]), &tensor, keys[1],
                      tensor.shape, DCAE_MAX_RANK, &tensor.rank) ||
        !read_numbers(parser, json_object_get_member(object, keys[2]), &tensor, keys[2], offsets, 2,
                      &n))
        return FALSE;
    if (n != 2)
        return fail(parser, "the data_offsets of tensor '%s' are not two numbers", name);
    tensor.begin = offsets[0];
    tensor.end = offsets[1];
    if (!check_extent(parser, &tensor))
        return FALSE;
    g_array_append_val(parser->header->tensors, tensor);
    return TRUE;
}

static gboolean read_entries(Parser *parser)
{
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;
    json_object_iter_init(&iter, json_node_get_object(parser->header->root));
    while (json_object_iter_next(&iter, &key, &node)) {
        gboolean metadata = strcmp(key, "__metadata__") == 0;
        if (!(metadata ? read_metadata(parser, node) : read_tensor(parser, key, node)))
            return FALSE;
    }
    return TRUE;
}

static int compare_place(gconstpointer a, gconstpointer b)
{
    const DcaeTensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Sorts the tensors and checks that they cover the data section without overlaps and holes. */
static gboolean index_tensors(Parser *parser)
{
    DcaeSafetensorsHeader *header = parser->header;
    g_array_sort(header->tensors, compare_place);
    for (guint i = 0; i < header->tensors->len; i++) {
        DcaeTensor *tensor = &g_array_index(header->tensors, DcaeTensor, i);
        if (tensor->begin != header->data_size)
            return fail(parser, "the data of tensor '%s' %s", tensor->name,
                        tensor->begin < header->data_size ? "overlaps another tensor's"
                                                          : "leaves a hole before it");
        header->data_size = tensor->end;
        g_hash_table_insert(header->by_name, (gpointer)tensor->name, tensor);
    }
    return TRUE;
}

static gboolean check_text(Parser *parser, const guint8 *json, gsize size)
{
    if (size > MAX_HEADER_SIZE)
        return fail(parser, "the header has %" G_GSIZE_FORMAT " bytes, more than 100 MB", size);
    if (size == 0 || json[0] != '{')
        return fail(parser,
                    "the header does not begin with a brace, so this is no safetensors file");
    return TRUE;
}

DcaeSafetensorsHeader *dcae_safetensors_header_parse(const guint8 *json, gsize size,
                                                     const char *name, GError **error)
{
    Parser parser = {.name = name, .error = error};
    g_autofree char *where = g_strdup_printf("%s: header", name);
    JsonNode *root = check_text(&parser, json, size)
                         ? dcae_json_parse((const char *)json, size, where, error)
                         : NULL;
    if (!root)
        return NULL;
    DcaeSafetensorsHeader *header = g_new0(DcaeSafetensorsHeader, 1);
    header->root = root;
    header->tensors = g_array_new(FALSE, FALSE, sizeof(DcaeTensor));
    header->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    parser.header = header;
    if (read_entries(&parser) && index_tensors(&parser))
        return header;
    dcae_safetensors_header_free(header);
    return NULL;
}

void dcae_safetensors_header_free(DcaeSafetensorsHeader *header)
{
    if (!header)
        return;
    g_hash_table_unref(header->by_name);
    g_array_free(header->tensors, TRUE);
    json_node_unref(header->root);
    g_free(header);
}

guint64 dcae_safetensors_header_data_size(const DcaeSafetensorsHeader *header)
{
    return header->data_size;
}

const DcaeTensor *dcae_safetensors_header_find(const DcaeSafetensorsHeader *header,
                                               const char *name)
{
    return g_hash_table_lookup(header->by_name, name);
}

guint dcae_safetensors_header_n_tensors(const DcaeSafetensorsHeader *header)
{
    return header->tensors->len;
}

const DcaeTensor *dcae_safetensors_header_nth(const DcaeSafetensorsHeader *header, guint n)
{
    return n < header->tensors->len ? &g_array_index(header->tensors, DcaeTensor, n) : NULL;
}

const char *dcae_safetensors_header_metadata(const DcaeSafetensorsHeader *header, const char *key)
{
    return header->metadata ? dcae_json_string(json_object_get_member(header->metadata, key))
                            : NULL;
}

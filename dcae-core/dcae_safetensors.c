/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_safetensors.c - parses and checks the JSON header of a safetensors file. The text comes from
 * strangers: look-ups are binary searches over sorted arrays and not hash tables, whose collisions
 * a stranger could choose, and every product is checked. It never sees the data section.
 */
#include "dcae.h"
#include "dcae_json.h"

#include <string.h>

#define MAX_HEADER_SIZE (100u * 1000 * 1000) /* the limit of the reference implementation */
#define MAX_TENSORS 100000
#define MAX_NAME 1024 /* keeps messages that quote a name readable */

typedef struct {
    const char *key, *value;
} Metadata;

struct _DcaeSafetensorsHeader {
    GStringChunk *strings;
    GArray *tensors;    /* DcaeTensor, by begin, then end */
    GPtrArray *by_name; /* DcaeTensor *, into tensors */
    GArray *metadata;   /* Metadata, by key */
    guint64 data_size;
};

/* What one call of the parser works on. */
typedef struct {
    DcaeSafetensorsHeader *header;
    DcaeJson json;
    GString *key, *text;
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

static gboolean fail_json(Parser *parser)
{
    return fail(parser, "the header is no valid safetensors header: %s at byte %" G_GSIZE_FORMAT,
                parser->json.fault, (gsize)(parser->json.pos - parser->json.start));
}

static gboolean read_metadata(Parser *parser)
{
    DcaeJson *json = &parser->json;
    GStringChunk *strings = parser->header->strings;
    dcae_json_begin(json, '{');
    while (dcae_json_key(json, parser->key) && dcae_json_string(json, parser->text)) {
        if (parser->key->len > MAX_NAME)
            return dcae_json_fail(json, "a metadata key is longer than 1024 bytes");
        Metadata entry = {
            g_string_chunk_insert_len(strings, parser->key->str, (gssize)parser->key->len),
            g_string_chunk_insert_len(strings, parser->text->str, (gssize)parser->text->len)};
        g_array_append_val(parser->header->metadata, entry);
    }
    return json->fault == NULL;
}

static void read_dtype(Parser *parser, DcaeTensor *tensor)
{
    if (!dcae_json_string(&parser->json, parser->text))
        return;
    tensor->dtype = DCAE_DTYPE_OTHER;
    for (guint i = 0; i < G_N_ELEMENTS(dtypes); i++) {
        if (strcmp(dtypes[i].name, parser->text->str) != 0)
            continue;
        tensor->dtype = dtypes[i].dtype;
        tensor->dtype_name = dtypes[i].name;
        return;
    }
    if (parser->text->len > MAX_NAME)
        dcae_json_fail(&parser->json, "a type name is too long");
    else
        tensor->dtype_name = g_string_chunk_insert(parser->header->strings, parser->text->str);
}

static void read_shape(Parser *parser, DcaeTensor *tensor)
{
    dcae_json_begin(&parser->json, '[');
    while (dcae_json_item(&parser->json)) {
        if (tensor->rank == DCAE_MAX_RANK)
            dcae_json_fail(&parser->json, "a tensor has more than 8 dimensions");
        else
            dcae_json_uint(&parser->json, &tensor->shape[tensor->rank++]);
    }
}

static void read_offsets(Parser *parser, DcaeTensor *tensor)
{
    guint64 pair[2] = {0, 0};
    guint n = 0;
    dcae_json_begin(&parser->json, '[');
    while (dcae_json_item(&parser->json)) {
        if (n == 2)
            dcae_json_fail(&parser->json, "data_offsets must be two numbers");
        else
            dcae_json_uint(&parser->json, &pair[n++]);
    }
    if (n != 2)
        dcae_json_fail(&parser->json, "data_offsets must be two numbers");
    tensor->begin = pair[0];
    tensor->end = pair[1];
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

/* The object of the tensor whose name is in parser->key. */
static gboolean read_tensor(Parser *parser)
{
    DcaeJson *json = &parser->json;
    DcaeTensor tensor = {0};
    guint have_dtype = 0, have_shape = 0, have_offsets = 0;
    if (parser->key->len > MAX_NAME)
        return dcae_json_fail(json, "a tensor name is longer than 1024 bytes");
    if (parser->header->tensors->len == MAX_TENSORS)
        return dcae_json_fail(json, "there are more than 100000 tensors");
    tensor.name = g_string_chunk_insert(parser->header->strings, parser->key->str);
    dcae_json_begin(json, '{');
    while (dcae_json_key(json, parser->key)) {
        if (strcmp(parser->key->str, "dtype") == 0 && !have_dtype++)
            read_dtype(parser, &tensor);
        else if (strcmp(parser->key->str, "shape") == 0 && !have_shape++)
            read_shape(parser, &tensor);
        else if (strcmp(parser->key->str, "data_offsets") == 0 && !have_offsets++)
            read_offsets(parser, &tensor);
        else if (have_dtype > 1 || have_shape > 1 || have_offsets > 1)
            dcae_json_fail(json, "a key stands twice in a tensor");
        else
            dcae_json_skip(json);
    }
    if (json->fault)
        return FALSE;
    if (!have_dtype || !have_shape || !have_offsets)
        return fail(parser, "tensor '%s' lacks its %s", tensor.name,
                    !have_dtype   ? "dtype"
                    : !have_shape ? "shape"
                                  : "data_offsets");
    if (!check_extent(parser, &tensor))
        return FALSE;
    g_array_append_val(parser->header->tensors, tensor);
    return TRUE;
}

static gboolean read_entries(Parser *parser)
{
    DcaeJson *json = &parser->json;
    gboolean seen_metadata = FALSE;
    dcae_json_begin(json, '{');
    while (dcae_json_key(json, parser->key)) {
        if (strcmp(parser->key->str, "__metadata__") != 0) {
            if (!read_tensor(parser))
                return json->fault ? fail_json(parser) : FALSE;
        } else if (seen_metadata) {
            return fail(parser, "the header has __metadata__ twice");
        } else {
            seen_metadata = TRUE;
            read_metadata(parser);
        }
    }
    return dcae_json_finish(json) || fail_json(parser);
}

static int compare_place(gconstpointer a, gconstpointer b)
{
    const DcaeTensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int compare_name(gconstpointer a, gconstpointer b)
{
    const DcaeTensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_key(gconstpointer a, gconstpointer b)
{
    return strcmp(((const Metadata *)a)->key, ((const Metadata *)b)->key);
}

/* Sorts what was read; checks names for duplicates and the data section for overlaps and holes. */
static gboolean index_entries(Parser *parser)
{
    DcaeSafetensorsHeader *header = parser->header;
    guint64 place = 0;
    g_array_sort(header->tensors, compare_place);
    for (guint i = 0; i < header->tensors->len; i++) {
        DcaeTensor *tensor = &g_array_index(header->tensors, DcaeTensor, i);
        if (tensor->begin != place)
            return fail(parser, "the data of tensor '%s' %s", tensor->name,
                        tensor->begin < place ? "overlaps another tensor's"
                                              : "leaves a hole before it");
        place = tensor->end;
        g_ptr_array_add(header->by_name, tensor);
    }
    header->data_size = place;
    g_ptr_array_sort(header->by_name, compare_name);
    for (guint i = 1; i < header->by_name->len; i++) {
        const DcaeTensor *a = header->by_name->pdata[i - 1], *b = header->by_name->pdata[i];
        if (strcmp(a->name, b->name) == 0)
            return fail(parser, "the header names tensor '%s' twice", a->name);
    }
    g_array_sort(header->metadata, compare_key);
    for (guint i = 1; i < header->metadata->len; i++) {
        const Metadata *entry = &g_array_index(header->metadata, Metadata, i);
        if (strcmp(entry[-1].key, entry->key) == 0)
            return fail(parser, "the header has the metadata key '%s' twice", entry->key);
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
    if (!g_utf8_validate_len((const char *)json, size, NULL))
        return fail(parser, "the header is no valid UTF-8 text");
    return TRUE;
}

DcaeSafetensorsHeader *dcae_safetensors_header_parse(const guint8 *json, gsize size,
                                                     const char *name, GError **error)
{
    DcaeSafetensorsHeader *header = g_new0(DcaeSafetensorsHeader, 1);
    Parser parser = {.header = header, .name = name, .error = error};
    if (!check_text(&parser, json, size)) {
        g_free(header);
        return NULL;
    }
    header->strings = g_string_chunk_new(4096);
    header->tensors = g_array_new(FALSE, FALSE, sizeof(DcaeTensor));
    header->by_name = g_ptr_array_new();
    header->metadata = g_array_new(FALSE, FALSE, sizeof(Metadata));
    parser.key = g_string_new(NULL);
    parser.text = g_string_new(NULL);
    dcae_json_init(&parser.json, (const char *)json, size);
    gboolean ok = read_entries(&parser) && index_entries(&parser);
    g_string_free(parser.key, TRUE);
    g_string_free(parser.text, TRUE);
    if (ok)
        return header;
    dcae_safetensors_header_free(header);
    return NULL;
}

void dcae_safetensors_header_free(DcaeSafetensorsHeader *header)
{
    if (!header)
        return;
    g_array_free(header->metadata, TRUE);
    g_ptr_array_free(header->by_name, TRUE);
    g_array_free(header->tensors, TRUE);
    g_string_chunk_free(header->strings);
    g_free(header);
}

guint64 dcae_safetensors_header_data_size(const DcaeSafetensorsHeader *header)
{
    return header->data_size;
}

const DcaeTensor *dcae_safetensors_header_find(const DcaeSafetensorsHeader *header,
                                               const char *name)
{
    guint low = 0, high = header->by_name->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        const DcaeTensor *tensor = header->by_name->pdata[middle];
        int order = strcmp(name, tensor->name);
        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
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
    for (guint i = 0; i < header->metadata->len; i++) {
        const Metadata *entry = &g_array_index(header->metadata, Metadata, i);
        if (strcmp(entry->key, key) == 0)
            return entry->value;
    }
    return NULL;
}

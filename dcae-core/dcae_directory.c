/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_directory.c - reads a model directory's file names as Diffusers' from_pretrained does, and
 * the list of shards, whose names must stay inside the directory.
 */
#include "dcae_directory.h"

#include "dcae_file.h"
#include "dcae_json.h"

#include <string.h>

#define MAX_INDEX_SIZE (16u << 20)
#define MAX_SHARDS 1000

/* A weight file or list of shards in the directory. */
typedef struct {
    char *file, *variant; /* variant: "" for the plain one */
    gboolean index;
} Entry;

static void entry_free(gpointer data)
{
    Entry *entry = data;
    g_free(entry->file);
    g_free(entry->variant);
    g_free(entry);
}

/* The text between the two ends, without the dots; NULL where name has not these ends. */
static char *between(const char *name, const char *begin, const char *end)
{
    gsize size = strlen(name), head = strlen(begin), tail = strlen(end);
    if (!g_str_has_prefix(name, begin) || !g_str_has_suffix(name, end) || size < head + tail)
        return NULL;
    if (size == head + tail)
        return g_strdup("");
    if (name[head] != '.' || size == head + tail + 1)
        return NULL;
    return g_strndup(name + head + 1, size - head - tail - 1);
}

/* "fp16-00001-of-00002" is a shard of a variant and no variant. */
static gboolean is_shard(const char *variant)
{
    const char *of = strstr(variant, "-of-");
    return of && of > variant && g_ascii_isdigit(of[-1]) && g_ascii_isdigit(of[4]);
}

/* What a file name means for a stem, as "diffusion_pytorch_model". The variant of a list of shards
 * has stood in three places over the years. */
static Entry *read_name(const char *name, const char *stem)
{
    static const char *const ends[] = {".safetensors.index.json", ".index.json", ".json"};
    static const char *const middles[] = {"", ".safetensors", ".safetensors.index"};
    char *variant = between(name, stem, ".safetensors");
    gboolean index = FALSE;
    if (variant && is_shard(variant))
        g_clear_pointer(&variant, g_free);
    for (guint i = 0; i < G_N_ELEMENTS(ends) && !variant; i++) {
        char *begin = g_strconcat(stem, middles[i], NULL);
        variant = between(name, begin, ends[i]);
        index = variant != NULL;
        g_free(begin);
    }
    if (!variant)
        return NULL;
    Entry *entry = g_new0(Entry, 1);
    *entry = (Entry){g_strdup(name), variant, index};
    return entry;
}

static GPtrArray *list_stem(const GPtrArray *names, const char *stem)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);
    for (guint i = 0; i < names->len; i++) {
        Entry *entry = read_name(names->pdata[i], stem);
        if (entry)
            g_ptr_array_add(entries, entry);
    }
    return entries;
}

/* The only .safetensors file of the directory, whatever its name. */
static GPtrArray *list_only(const GPtrArray *names)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);
    for (guint i = 0; i < names->len; i++) {
        if (!g_str_has_suffix(names->pdata[i], ".safetensors"))
            continue;
        Entry *entry = g_new0(Entry, 1);
        *entry = (Entry){g_strdup(names->pdata[i]), g_strdup(""), FALSE};
        g_ptr_array_add(entries, entry);
    }
    if (entries->len > 1)
        g_ptr_array_set_size(entries, 0);
    return entries;
}

static int compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *list_names(const char *path, GError **error)
{
    GError *cause = NULL;
    GDir *dir = g_dir_open(path, 0, &cause);
    if (!dir) {
        char *name = g_filename_display_name(path);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_READ, "%s: can't be read: %s", name,
                    cause->message);
        g_free(name);
        g_error_free(cause);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *entry;
    while ((entry = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(entry));
    g_dir_close(dir);
    g_ptr_array_sort(names, compare_strings);
    return names;
}

/* A list of shards wins over a single file, as in from_pretrained. */
static const Entry *choose(const GPtrArray *entries, const char *variant)
{
    const Entry *best = NULL;
    for (guint i = 0; i < entries->len; i++) {
        const Entry *entry = entries->pdata[i];
        if (strcmp(entry->variant, variant) == 0 && (!best || entry->index))
            best = entry;
    }
    return best;
}

static char *list_variants(const GPtrArray *entries)
{
    GPtrArray *variants = g_ptr_array_new();
    for (guint i = 0; i < entries->len; i++) {
        const Entry *entry = entries->pdata[i];
        if (*entry->variant &&
            !g_ptr_array_find_with_equal_func(variants, entry->variant, g_str_equal, NULL))
            g_ptr_array_add(variants, entry->variant);
    }
    g_ptr_array_sort(variants, compare_strings);
    g_ptr_array_add(variants, NULL);
    char *raw = g_strjoinv(", ", (char **)variants->pdata);
    char *text = g_utf8_make_valid(raw, -1);
    g_free(raw);
    g_ptr_array_free(variants, TRUE);
    return text;
}

static gboolean fail_choice(const GPtrArray *entries, const char *path, const char *variant,
                            GError **error)
{
    char *name = g_filename_display_name(path);
    char *variants = list_variants(entries);
    gboolean plain = choose(entries, "") != NULL;
    if (entries->len == 0)
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                    "%s has no weights: neither diffusion_pytorch_model.safetensors nor "
                    "model.safetensors, nor exactly one other .safetensors file",
                    name);
    else if (*variant)
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                    "%s: has no variant '%s' of the weights; there %s %s%s%s", name, variant,
                    *variants ? "are:" : "is only", *variants ? variants : "",
                    *variants && plain ? ", and " : "", plain ? "the plain one" : "");
    else
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                    "%s: has only variants of the weights (%s); choose one with variant", name,
                    variants);
    g_free(variants);
    g_free(name);
    return FALSE;
}

static gboolean fail_shards(const char *name, const char *fault, GError **error)
{
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: no valid list of shards: %s", name,
                fault);
    return FALSE;
}

/* Adds the files that a list of shards names, each once. */
static gboolean read_weight_map(GPtrArray *weights, JsonNode *root, const char *path,
                                const char *name, GError **error)
{
    JsonObjectIter iter;
    JsonNode *node;
    JsonObject *map =
        dcae_json_object(json_object_get_member(json_node_get_object(root), "weight_map"));
    if (!map || json_object_get_size(map) == 0)
        return fail_shards(name, "weight_map is missing, empty or no object", error);
    json_object_iter_init(&iter, map);
    while (json_object_iter_next(&iter, NULL, &node)) {
        const char *file = dcae_json_string(node);
        if (!file || !g_str_has_suffix(file, ".safetensors") || strpbrk(file, "/\\") ||
            strstr(file, ".."))
            return fail_shards(
                name, "a shard must be the plain name of a .safetensors file beside the list",
                error);
        char *full = g_build_filename(path, file, NULL);
        if (g_ptr_array_find_with_equal_func(weights, full, g_str_equal, NULL))
            g_free(full);
        else
            g_ptr_array_add(weights, full);
        if (weights->len > MAX_SHARDS)
            return fail_shards(name, "there are more than 1000 shards", error);
    }
    g_ptr_array_sort(weights, compare_strings);
    return TRUE;
}

static gboolean add_shards(GPtrArray *weights, const char *path, const char *index, GError **error)
{
    char *full = g_build_filename(path, index, NULL);
    char *name = g_filename_display_name(full);
    char *text = dcae_file_text(full, MAX_INDEX_SIZE, error);
    JsonNode *root = text ? dcae_json_parse(text, strlen(text), name, error) : NULL;
    gboolean ok = root && read_weight_map(weights, root, path, name, error);
    g_clear_pointer(&root, json_node_unref);
    g_free(text);
    g_free(name);
    g_free(full);
    return ok;
}

static gboolean choose_weights(DcaeDirectory *directory, const GPtrArray *names, const char *path,
                               const char *variant, GError **error)
{
    static const char *const stems[] = {"diffusion_pytorch_model", "model"};
    GPtrArray *entries = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(stems) && (!entries || entries->len == 0); i++) {
        if (entries)
            g_ptr_array_free(entries, TRUE);
        entries = list_stem(names, stems[i]);
    }
    if (entries->len == 0) {
        g_ptr_array_free(entries, TRUE);
        entries = list_only(names);
    }
    gboolean ok = TRUE;
    const Entry *entry = choose(entries, variant);
    if (!entry)
        ok = fail_choice(entries, path, variant, error);
    else if (entry->index)
        ok = add_shards(directory->weights, path, entry->file, error);
    else
        g_ptr_array_add(directory->weights, g_build_filename(path, entry->file, NULL));
    g_ptr_array_free(entries, TRUE);
    return ok;
}

gboolean dcae_directory_open(DcaeDirectory *directory, const char *path, const char *variant,
                             GError **error)
{
    *directory = (DcaeDirectory){0};
    GPtrArray *names = list_names(path, error);
    if (!names)
        return FALSE;
    directory->weights = g_ptr_array_new_with_free_func(g_free);
    if (g_ptr_array_find_with_equal_func(names, "config.json", g_str_equal, NULL))
        directory->config = g_build_filename(path, "config.json", NULL);
    gboolean ok = choose_weights(directory, names, path, variant ? variant : "", error);
    g_ptr_array_free(names, TRUE);
    if (!ok)
        dcae_directory_clear(directory);
    return ok;
}

void dcae_directory_clear(DcaeDirectory *directory)
{
    g_free(directory->config);
    if (directory->weights)
        g_ptr_array_free(directory->weights, TRUE);
    *directory = (DcaeDirectory){0};
}

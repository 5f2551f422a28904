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
                    "%s: has no weights: neither diffusion_pytorch_model.safetensors nor "
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

/* The file names in a list of shards; NULL where the list is faulty, and then json->fault says it.
 */
static GPtrArray *read_weight_map(DcaeJson *json)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    GString *text = g_string_new(NULL);
    guint maps = 0;
    dcae_json_begin(json, '{');
    while (dcae_json_key(json, text)) {
        if (strcmp(text->str, "weight_map") != 0) {
            dcae_json_skip(json);
            continue;
        }
        if (maps++)
            dcae_json_fail(json, "weight_map stands twice");
        dcae_json_begin(json, '{');
        while (dcae_json_key(json, NULL) && dcae_json_string(json, text)) {
            if (!g_str_has_suffix(text->str, ".safetensors") || strpbrk(text->str, "/\\") ||
                strstr(text->str, ".."))
                dcae_json_fail(json, "a shard must be the plain name of a .safetensors file beside "
                                     "the list");
            /* Shards are listed in runs, so nearly all repetitions are seen here. */
            if (!files->len || strcmp(files->pdata[files->len - 1], text->str) != 0)
                g_ptr_array_add(files, g_strdup(text->str));
        }
    }
    if (!json->fault && files->len == 0)
        dcae_json_fail(json, "weight_map is missing or empty");
    dcae_json_finish(json);
    g_string_free(text, TRUE);
    return files;
}

static gboolean add_shards(GPtrArray *weights, const char *path, const char *index, GError **error)
{
    DcaeJson json;
    char *full = g_build_filename(path, index, NULL);
    char *text = dcae_file_text(full, MAX_INDEX_SIZE, error);
    char *name = g_filename_display_name(full);
    g_free(full);
    if (!text || !g_utf8_validate(text, -1, NULL)) {
        if (text)
            g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: no valid UTF-8 text", name);
        g_free(name);
        g_free(text);
        return FALSE;
    }
    dcae_json_init(&json, text, strlen(text));
    GPtrArray *files = read_weight_map(&json);
    g_ptr_array_sort(files, compare_strings);
    for (guint i = 0; i < files->len && !json.fault; i++) {
        if (i > 0 && strcmp(files->pdata[i - 1], files->pdata[i]) == 0)
            continue;
        if (weights->len == MAX_SHARDS)
            dcae_json_fail(&json, "there are more than 1000 shards");
        g_ptr_array_add(weights, g_build_filename(path, (char *)files->pdata[i], NULL));
    }
    if (json.fault)
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT,
                    "%s: no valid list of shards: %s at byte %" G_GSIZE_FORMAT, name, json.fault,
                    (gsize)(json.pos - json.start));
    g_ptr_array_free(files, TRUE);
    g_free(name);
    g_free(text);
    return json.fault == NULL;
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

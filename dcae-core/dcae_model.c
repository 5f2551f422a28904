/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_model.c - finds a model's files, its configuration and its name, and computes its hash.
 * Knows neither the network nor its tensors, but for the two that the hash is taken over. Read
 * next: dcae_directory.c (which files), dcae_checkpoint.c (what is in them).
 */
#include "dcae_model.h"

#include "dcae_checkpoint.h"
#include "dcae_directory.h"
#include "dcae_file.h"
#include "dcae_hub.h"
#include "dcae_infer.h"
#include "dcae_json.h"

#include <string.h>

#define MAX_CONFIG_SIZE (1u << 20)
#define HASH_CHUNK 65536 /* elements */

struct _DcaeModel {
    gatomicrefcount references;
    DcaeCheckpoint *checkpoint;
    DcaeConfig config;
    DcaeModelInfo info;
    char *name, *key;
    char hash[17];
};

/* What one call of dcae_model_open() works on. */
typedef struct {
    const DcaeModelParams *params;
    DcaeModel *model;
    char *path;         /* the directory or file */
    const char *hub_id; /* params->path where that is an id */
    char *config_path;  /* config.json of the directory, or NULL */
    gboolean directory;
} Opening;

/* ---- configuration ---- */

static gboolean parse_file(const char *path, DcaeConfig *config, GError **error)
{
    char *text = dcae_file_text(path, MAX_CONFIG_SIZE, error);
    if (!text)
        return FALSE;
    char *name = g_filename_display_name(path);
    gboolean ok = dcae_config_parse(config, text, name, error);
    g_free(name);
    g_free(text);
    return ok;
}

/* The `config` parameter: a released model's name, or a file. */
static gboolean named_config(const char *text, DcaeConfig *config, GError **error)
{
    const DcaeConfig *released = dcae_config_released(text);
    if (released) {
        *config = *released;
        return TRUE;
    }
    if (g_file_test(text, G_FILE_TEST_EXISTS))
        return parse_file(text, config, error);
    GString *names = g_string_new(NULL);
    for (guint i = 0; i < dcae_config_n_released(); i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "", dcae_config_released_name(i));
    char *name = g_filename_display_name(text);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                "config '%s' is neither a file nor the name of a released model (%s)", name,
                names->str);
    g_free(name);
    g_string_free(names, TRUE);
    return FALSE;
}

static gboolean is_diffusers_key(const char *key)
{
    return strcmp(key, "_class_name") == 0 || g_str_has_prefix(key, "encoder_") ||
           g_str_has_prefix(key, "decoder_");
}

/* Reads the config.json beside weights in the original layout: Diffusers', or the original
 * project's own, which holds only the name of a model. *released receives that model or NULL. */
static gboolean peek_config(const char *path, gboolean *diffusers, const DcaeConfig **released,
                            GError **error)
{
    JsonObjectIter iter;
    const char *key;
    char *text = dcae_file_text(path, MAX_CONFIG_SIZE, error);
    if (!text)
        return FALSE;
    char *display = g_filename_display_name(path);
    JsonNode *root = dcae_json_parse(text, strlen(text), display, error);
    g_free(display);
    g_free(text);
    if (!root)
        return FALSE;
    JsonObject *object = json_node_get_object(root);
    const char *name = dcae_json_string(json_object_get_member(object, "model_name"));
    *released = name ? dcae_config_released(name) : NULL;
    *diffusers = FALSE;
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &key, NULL))
        *diffusers |= is_diffusers_key(key);
    json_node_unref(root);
    return TRUE;
}

/* A directory with weights in the original layout. */
static gboolean original_config(const Opening *opening, DcaeConfig *config, GError **error)
{
    const DcaeConfig *released = NULL;
    gboolean diffusers = FALSE;
    if (opening->config_path && !peek_config(opening->config_path, &diffusers, &released, error))
        return FALSE;
    if (diffusers)
        return parse_file(opening->config_path, config, error);
    if (!released && opening->hub_id)
        released = dcae_config_released(opening->hub_id);
    if (!released)
        return dcae_infer_config(opening->model->checkpoint, config, error);
    *config = *released;
    return TRUE;
}

static gboolean fail_no_config(const Opening *opening, GError **error)
{
    char *name = g_filename_display_name(opening->path);
    char *inner = g_build_filename(opening->path, "vae", "config.json", NULL);
    gboolean pipeline = g_file_test(inner, G_FILE_TEST_EXISTS);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND, "%s: has no config.json%s", name,
                pipeline ? "; it looks like a whole pipeline, whose model is its folder vae" : "");
    g_free(inner);
    g_free(name);
    return FALSE;
}

/* A hint for a single file whose structure is unknown. */
static void hint_config(const Opening *opening, GError **error)
{
    char *folder = g_path_get_dirname(opening->path);
    char *beside = g_build_filename(folder, "config.json", NULL);
    if (error && *error && g_file_test(beside, G_FILE_TEST_EXISTS)) {
        char *name = g_filename_display_name(beside);
        char *message = g_strdup_printf("%s (there is %s)", (*error)->message, name);
        g_free((*error)->message);
        (*error)->message = message;
        g_free(name);
    }
    g_free(beside);
    g_free(folder);
}

static gboolean load_config(const Opening *opening, DcaeConfig *config, GError **error)
{
    const char *named = opening->params->config;
    if (named && *named)
        return named_config(named, config, error);
    if (!opening->directory) {
        if (dcae_infer_config(opening->model->checkpoint, config, error))
            return TRUE;
        hint_config(opening, error);
        return FALSE;
    }
    if (dcae_checkpoint_is_original(opening->model->checkpoint))
        return original_config(opening, config, error);
    if (!opening->config_path)
        return fail_no_config(opening, error);
    return parse_file(opening->config_path, config, error);
}

/* ---- files ---- */

static gboolean open_directory(Opening *opening, GError **error)
{
    DcaeDirectory directory;
    if (!dcae_directory_open(&directory, opening->path, opening->params->variant, error)) {
        /* A whole pipeline has its model one folder below; say that rather than "no weights". */
        char *inner = g_build_filename(opening->path, "vae", "config.json", NULL);
        if (g_file_test(inner, G_FILE_TEST_EXISTS)) {
            g_clear_error(error);
            fail_no_config(opening, error);
        }
        g_free(inner);
        return FALSE;
    }
    opening->config_path = g_strdup(directory.config);
    opening->model->checkpoint = dcae_checkpoint_open((const char *const *)directory.weights->pdata,
                                                      directory.weights->len, error);
    dcae_directory_clear(&directory);
    return opening->model->checkpoint != NULL;
}

static gboolean open_file(Opening *opening, GError **error)
{
    const char *path = opening->path, *variant = opening->params->variant;
    if (variant && *variant) {
        char *name = g_filename_display_name(path);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                    "%s: is a single file, so there is no variant '%s' to choose", name, variant);
        g_free(name);
        return FALSE;
    }
    opening->model->checkpoint = dcae_checkpoint_open(&path, 1, error);
    return opening->model->checkpoint != NULL;
}

/* Sets opening->path and directory from the path or id that was asked for. */
static gboolean resolve(Opening *opening, GError **error)
{
    const char *path = opening->params->path;
    if (!path || !*path) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND, "no model is set");
        return FALSE;
    }
    gboolean exists = !opening->params->hub_only && g_file_test(path, G_FILE_TEST_EXISTS);
    if (!exists && dcae_hub_is_id(path)) {
        opening->path = dcae_hub_find(path, opening->params->hub_cache, error);
        opening->hub_id = path;
        opening->directory = TRUE;
        return opening->path != NULL;
    }
    if (!exists) {
        char *name = g_filename_display_name(path);
        g_set_error(
            error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
            "'%s' is neither a file, nor a directory, nor a Hugging Face repository id such as "
            "mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers",
            name);
        g_free(name);
        return FALSE;
    }
    opening->path = g_canonicalize_filename(path, NULL);
    opening->directory = g_file_test(path, G_FILE_TEST_IS_DIR);
    return TRUE;
}

/* ---- name and hash ---- */

static char *model_name(const Opening *opening)
{
    char *id = opening->hub_id ? g_strdup(opening->hub_id) : dcae_hub_id_of(opening->path);
    if (id)
        return id;
    char *name = g_filename_display_basename(opening->path);
    if (!opening->directory && g_str_has_suffix(name, ".safetensors"))
        name[strlen(name) - strlen(".safetensors")] = 0;
    return name;
}

static gboolean hash_tensor(GChecksum *checksum, const DcaeModel *model, const char *name,
                            const guint64 *shape, GError **error)
{
    DcaeFound found;
    if (!dcae_checkpoint_want(model->checkpoint, name, shape, 4, &found, error))
        return FALSE;
    gboolean ok = TRUE;
    float *values = g_new(float, HASH_CHUNK);
    for (guint64 done = 0; done < found.count && ok; done += HASH_CHUNK) {
        guint64 n = MIN(found.count - done, HASH_CHUNK);
        ok = dcae_checkpoint_read(model->checkpoint, &found, done, n, values, error);
        for (guint64 i = 0; i < n && ok && G_BYTE_ORDER != G_LITTLE_ENDIAN; i++) {
            guint32 bits;
            memcpy(&bits, &values[i], 4);
            bits = GUINT32_TO_LE(bits);
            memcpy(&values[i], &bits, 4);
        }
        if (ok)
            g_checksum_update(checksum, (const guchar *)values, (gssize)(n * sizeof(float)));
    }
    g_free(values);
    return ok;
}

static gboolean compute_hash(DcaeModel *model, const char *canonical, GError **error)
{
    const DcaeConfig *config = &model->config;
    guint last = config->n_stages - 1;
    const guint64 out[] = {config->latent_channels, config->encoder[last].width, 3, 3};
    const guint64 in[] = {config->decoder[last].width, config->latent_channels, 3, 3};
    GChecksum *checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(checksum, (const guchar *)canonical, -1);
    gboolean ok = hash_tensor(checksum, model, "encoder.conv_out.weight", out, error) &&
                  hash_tensor(checksum, model, "decoder.conv_in.weight", in, error);
    if (ok)
        g_strlcpy(model->hash, g_checksum_get_string(checksum), sizeof model->hash);
    g_checksum_free(checksum);
    return ok;
}

static gboolean describe(const Opening *opening, GError **error)
{
    DcaeModel *model = opening->model;
    const DcaeConfig *config = &model->config;
    char *canonical = dcae_config_to_json(config);
    char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, canonical, -1);
    gboolean ok = compute_hash(model, canonical, error);
    model->name = model_name(opening);
    /* One file may be opened with two configurations, whose programs pack different tensors. */
    model->key = g_strconcat(dcae_checkpoint_key(model->checkpoint), digest, NULL);
    model->info = (DcaeModelInfo){
        .name = model->name,
        .hash = model->hash,
        .ratio = dcae_config_ratio(config),
        .in_channels = config->in_channels,
        .latent_channels = config->latent_channels,
        .scaling_factor = config->scaling_factor,
        .channel_prefix = !config->encoder_out_shortcut && !config->decoder_in_shortcut,
    };
    g_free(digest);
    g_free(canonical);
    return ok;
}

DcaeModel *dcae_model_open(const DcaeModelParams *params, GError **error)
{
    GError *cause = NULL;
    DcaeModel *model = g_new0(DcaeModel, 1);
    Opening opening = {.params = params, .model = model};
    g_atomic_ref_count_init(&model->references);
    gboolean ok = resolve(&opening, &cause) &&
                  (opening.directory ? open_directory : open_file)(&opening, &cause) &&
                  load_config(&opening, &model->config, &cause) && describe(&opening, &cause);
    g_free(opening.path);
    g_free(opening.config_path);
    if (ok)
        return model;
    dcae_model_unref(model);
    g_propagate_error(error, cause);
    return NULL;
}

DcaeModel *dcae_model_ref(DcaeModel *model)
{
    g_atomic_ref_count_inc(&model->references);
    return model;
}

void dcae_model_unref(DcaeModel *model)
{
    if (!model || !g_atomic_ref_count_dec(&model->references))
        return;
    dcae_checkpoint_free(model->checkpoint);
    g_free(model->name);
    g_free(model->key);
    g_free(model);
}

const DcaeModelInfo *dcae_model_info(const DcaeModel *model)
{
    return &model->info;
}

const DcaeConfig *dcae_model_config(const DcaeModel *model)
{
    return &model->config;
}

const char *dcae_model_key(const DcaeModel *model)
{
    return model->key;
}

gboolean dcae_model_has(const DcaeModel *model, const char *name)
{
    DcaeFound found;
    return dcae_checkpoint_find(model->checkpoint, name, &found);
}

gboolean dcae_model_read(const DcaeModel *model, const char *name, const guint64 *shape, guint rank,
                         float *dst, GError **error)
{
    DcaeFound found;
    return dcae_checkpoint_want(model->checkpoint, name, shape, rank, &found, error) &&
           dcae_checkpoint_read(model->checkpoint, &found, 0, found.count, dst, error);
}

gboolean dcae_model_check(const DcaeModel *model, const char *name, const guint64 *shape,
                          guint rank, GError **error)
{
    DcaeFound found;
    return dcae_checkpoint_want(model->checkpoint, name, shape, rank, &found, error);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_hub.c - looks repositories up in the cache as huggingface_hub lays it out:
 * models--ORG--NAME/refs/main holds the commit, models--ORG--NAME/snapshots/COMMIT the files.
 */
#include "dcae_hub.h"

#include "dcae_file.h"

#include <string.h>

#define MAX_ID 200

static gboolean is_id_char(char c)
{
    return g_ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
}

gboolean dcae_hub_is_id(const char *text)
{
    const char *slash = strchr(text, '/');
    if (!slash || slash == text || !slash[1] || strlen(text) > MAX_ID || strstr(text, "..") ||
        strstr(text, "--"))
        return FALSE;
    for (const char *p = text; *p; p++)
        if (p != slash && !is_id_char(*p))
            return FALSE;
    return text[0] != '.' && slash[1] != '.';
}

static gboolean is_commit(const char *text)
{
    for (const char *p = text; *p; p++)
        if (!is_id_char(*p))
            return FALSE;
    return *text && *text != '.';
}

/* The commit that refs/main names, or NULL. */
static char *read_commit(const char *repository)
{
    char *path = g_build_filename(repository, "refs", "main", NULL);
    char *commit = dcae_file_text(path, 256, NULL);
    g_free(path);
    if (commit && !is_commit(g_strstrip(commit)))
        g_clear_pointer(&commit, g_free);
    return commit;
}

char *dcae_hub_find(const char *id, const char *cache, GError **error)
{
    const char *slash = strchr(id, '/');
    char *root = cache && *cache
                     ? g_strdup(cache)
                     : g_build_filename(g_get_home_dir(), ".cache", "huggingface", "hub", NULL);
    char *folder = g_strdup_printf("models--%.*s--%s", (int)(slash - id), id, slash + 1);
    char *repository = g_build_filename(root, folder, NULL);
    char *commit = read_commit(repository);
    char *snapshot = commit ? g_build_filename(repository, "snapshots", commit, NULL) : NULL;
    if (!snapshot || !g_file_test(snapshot, G_FILE_TEST_IS_DIR)) {
        char *name = g_filename_display_name(root);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
                    "'%s' is no file or directory here, and the Hugging Face cache %s does not "
                    "have it: run 'hf download %s' or 'huggingface-cli download %s'",
                    id, name, id, id);
        g_free(name);
        g_clear_pointer(&snapshot, g_free);
    }
    g_free(commit);
    g_free(repository);
    g_free(folder);
    g_free(root);
    return snapshot;
}

char *dcae_hub_id_of(const char *path)
{
    static const char begin[] = "models--";
    char *id = NULL;
    char **parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] && parts[i + 1] && parts[i + 2]; i++) {
        if (!g_str_has_prefix(parts[i], begin) || strcmp(parts[i + 1], "snapshots") != 0)
            continue;
        const char *organisation = parts[i] + sizeof begin - 1;
        const char *dashes = strstr(organisation, "--");
        g_free(id);
        id = dashes ? g_strdup_printf("%.*s/%s", (int)(dashes - organisation), organisation,
                                      dashes + 2)
                    : NULL;
        if (id && !dcae_hub_is_id(id))
            g_clear_pointer(&id, g_free);
    }
    g_strfreev(parts);
    return id;
}

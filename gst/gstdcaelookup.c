/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaelookup.c - which model an element uses, and where that is. The only
 * file that reads environment variables (HF_HUB_CACHE, HF_HOME and
 * GST_DCAE_MODELS_PATH).
 */
#include "gstdcaelookup.h"

#include <string.h>

GST_DEBUG_CATEGORY_EXTERN (gst_dcae_debug);
#define GST_CAT_DEFAULT gst_dcae_debug

#define DEMO_MODEL "demo"

/* The root of the Hugging Face cache, or NULL for the library's default. */
static gchar *
find_hub_cache (void)
{
  const gchar *cache = g_getenv ("HF_HUB_CACHE");
  const gchar *home = g_getenv ("HF_HOME");
  gchar *path;

  if (cache && cache[0])
    path = g_strdup (cache);
  else if (home && home[0])
    path = g_build_filename (home, "hub", NULL);
  else
    return NULL;

  if (g_str_has_prefix (path, "~/")) {
    gchar *full = g_build_filename (g_get_home_dir (), path + 2, NULL);

    g_free (path);
    path = full;
  }
  return path;
}

/* The directory of an installed model, or NULL. */
static gchar *
find_installed (const gchar * name)
{
  const gchar *env = g_getenv ("GST_DCAE_MODELS_PATH");
  gchar *list = g_strconcat (env ? env : "", G_SEARCHPATH_SEPARATOR_S,
      DCAE_DATADIR "/models", NULL);
  gchar **dirs = g_strsplit (list, G_SEARCHPATH_SEPARATOR_S, -1);
  gchar *found = NULL;

  for (guint i = 0; dirs[i] && !found; i++) {
    if (dirs[i][0] == '\0')
      continue;
    found = g_build_filename (dirs[i], name, NULL);
    if (!g_file_test (found, G_FILE_TEST_IS_DIR))
      g_clear_pointer (&found, g_free);
  }
  g_strfreev (dirs);
  g_free (list);
  return found;
}

/* Names come from strangers' files: only a repository id or a plain name may
 * be looked up, nothing that could lead elsewhere. */
static gboolean
is_model_name (const gchar * name)
{
  guint slashes = 0;

  if (name[0] == '.' || name[0] == '/' || name[0] == '\0')
    return FALSE;
  for (const gchar * p = name; *p; p++) {
    if (*p == '/') {
      if (++slashes > 1 || p[1] == '\0' || p[1] == '.')
        return FALSE;
    } else if (!g_ascii_isalnum (*p) && !strchr ("-_.", *p)) {
      return FALSE;
    }
  }
  return strstr (name, "..") == NULL;
}

/* hub_only: path is a repository id, whatever files there are. */
static DcaeModel *
open_model (const GstDcaeLookup * self, const gchar * path, gboolean hub_only,
    GError ** error)
{
  gchar *hub_cache = find_hub_cache ();
  DcaeModelParams params = {
    .path = path,
    .variant = self->settings->variant,
    .config = self->settings->config,
    .hub_cache = hub_cache,
    .hub_only = hub_only,
  };
  DcaeModel *model;

  GST_INFO_OBJECT (self->element, "opening model %s, cache %s", path,
      hub_cache ? hub_cache : "(default)");
  model = dcae_model_open (&params, error);
  g_free (hub_cache);
  return model;
}

/* A path, the name of an installed model, or a repository id; from a stranger's
 * file never a path, not even where the current directory has that name. */
static DcaeModel *
open_named (const GstDcaeLookup * self, const gchar * name, gboolean trusted,
    GError ** error)
{
  gchar *installed = NULL;
  DcaeModel *model;

  if (is_model_name (name) &&
      !(trusted && g_file_test (name, G_FILE_TEST_EXISTS)))
    installed = find_installed (name);
  model = open_model (self, installed ? installed : name,
      !trusted && !installed, error);
  g_free (installed);
  return model;
}

static DcaeModel *
open_demo (const GstDcaeLookup * self, GError ** error)
{
  gchar *path = find_installed (DEMO_MODEL);
  DcaeModel *model;

  if (!path) {
    g_set_error (error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
        "no model property was set and the demonstration model is not "
        "installed below %s", DCAE_DATADIR "/models");
    return NULL;
  }
  model = open_model (self, path, FALSE, error);
  g_free (path);
  return model;
}

/* The error for latents whose model is not known. */
static void
set_no_model_error (const GstDcaeLookup * self, const gchar * why,
    GError ** error)
{
  gchar *ratio = self->request->ratio ?
      g_strdup_printf ("ratio %u", self->request->ratio) :
      g_strdup ("an unknown ratio");

  g_set_error (error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
      "%s; the latents have %s and %u channels: set the model property to the "
      "model that made them", why, ratio, self->request->channels);
  g_free (ratio);
}

/* The model that caps name. Its hash must agree where they give one. */
static DcaeModel *
open_requested (const GstDcaeLookup * self, GError ** error)
{
  const gchar *name = self->request->name;
  GError *cause = NULL;
  DcaeModel *model = NULL;
  gchar *why = NULL;

  if (!is_model_name (name)) {
    why = g_strdup_printf ("the caps name the model '%s', which is neither a "
        "repository id nor the name of an installed model", name);
  } else if (!(model = open_named (self, name, FALSE, &cause))) {
    if (!g_error_matches (cause, DCAE_ERROR, DCAE_ERROR_NOT_FOUND)) {
      g_propagate_error (error, cause);
      return NULL;
    }
    /* The library's sentence is about what a property may say. */
    why = strchr (name, '/') ? g_strdup_printf ("the caps name a model, but %s",
        cause->message) : g_strdup_printf ("the caps name the model '%s', "
        "which is neither installed nor in a folder of GST_DCAE_MODELS_PATH",
        name);
    g_error_free (cause);
  } else if (self->request->hash &&
      strcmp (dcae_model_info (model)->hash, self->request->hash) != 0) {
    why = g_strdup_printf ("the caps name the model '%s' with hash %s, but the "
        "one found has hash %s", name, self->request->hash,
        dcae_model_info (model)->hash);
    g_clear_pointer (&model, dcae_model_unref);
  }
  if (why)
    set_no_model_error (self, why, error);
  g_free (why);
  return model;
}

/* The demonstration model, where unnamed latents have its shape. */
static DcaeModel *
open_demo_for_shape (const GstDcaeLookup * self, GError ** error)
{
  DcaeModel *model = open_demo (self, NULL);
  const DcaeModelInfo *info;

  if (model) {
    info = dcae_model_info (model);
    if (info->latent_channels == self->request->channels &&
        (!self->request->ratio || info->ratio == self->request->ratio) &&
        (!self->request->hash || !strcmp (info->hash, self->request->hash)))
      return model;
    dcae_model_unref (model);
  }
  set_no_model_error (self, "the caps name no model", error);
  return NULL;
}

DcaeModel *
gst_dcae_lookup_model (const GstDcaeLookup * self, GError ** error)
{
  if (self->settings->model)
    return open_named (self, self->settings->model, TRUE, error);
  if (!self->request)
    return open_demo (self, error);
  if (self->request->name)
    return open_requested (self, error);
  return open_demo_for_shape (self, error);
}

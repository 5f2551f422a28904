/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaememory.c - how much memory this process may still take: what the
 * kernel calls available, bounded by the limits of the control groups
 * (versions 1 and 2) that containers and service managers set. Page cache
 * that a group could drop counts as free. Knows nothing of elements.
 */
#include "gstdcaememory.h"

#include <string.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
#define UNLIMITED G_MAXUINT64

/* The number behind key at the start of a line of a file; FALSE where there
 * is none. An empty key reads a file that holds one number ("max" is none). */
static gboolean
read_number (const gchar * path, const gchar * key, guint64 * value)
{
  gchar *text = NULL;
  gboolean found = FALSE;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;

  for (const gchar * line = text; line && !found;) {
    if (g_str_has_prefix (line, key)) {
      const gchar *number = line + strlen (key);

      while (*number == ' ' || *number == '\t')
        number++;
      found = g_ascii_isdigit (*number);
      if (found)
        *value = g_ascii_strtoull (number, NULL, 10);
    }
    line = strchr (line, '\n');
    if (line)
      line++;
  }
  g_free (text);
  return found;
}

static gboolean
read_group_number (const gchar * dir, const gchar * file, const gchar * key,
    guint64 * value)
{
  gchar *path = g_build_filename (dir, file, NULL);
  gboolean found = read_number (path, key, value);

  g_free (path);
  return found;
}

/* What one group leaves, UNLIMITED where it sets no limit. */
static guint64
group_available (const gchar * dir, gboolean v2)
{
  guint64 limit, used, cache = 0;

  if (!read_group_number (dir, v2 ? "memory.max" : "memory.limit_in_bytes", "",
          &limit))
    return UNLIMITED;
  if (!read_group_number (dir,
          v2 ? "memory.current" : "memory.usage_in_bytes", "", &used))
    return UNLIMITED;
  read_group_number (dir, "memory.stat",
      v2 ? "inactive_file " : "total_inactive_file ", &cache);

  used -= MIN (cache, used);
  return limit > used ? limit - used : 0;
}

/* The least that a group and its ancestors leave. In a container the path
 * names a group of the host, which may not be visible: the root that is
 * mounted there is then the container's own group, and is always looked at. */
static guint64
groups_available (const gchar * root, const gchar * group, gboolean v2)
{
  gchar *path = g_strdup (group);
  guint64 least = group_available (root, v2);

  while (path[0] == '/' && path[1] != '\0') {
    gchar *dir = g_build_filename (root, path, NULL);
    guint64 left = group_available (dir, v2);

    least = MIN (least, left);
    g_free (dir);
    *strrchr (path, '/') = '\0';
  }
  g_free (path);
  return least;
}

/* Looks up the groups in /proc/self/cgroup: "0::/path" for version 2,
 * "number:controllers:/path" for version 1. */
static guint64
cgroup_available (void)
{
  gchar *text = NULL;
  gchar **lines;
  guint64 least = UNLIMITED;

  if (!g_file_get_contents ("/proc/self/cgroup", &text, NULL, NULL))
    return UNLIMITED;

  lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i]; i++) {
    gchar **part = g_strsplit (lines[i], ":", 3);
    guint64 left = UNLIMITED;

    if (g_strv_length (part) == 3 && !strstr (part[2], "..")) {
      gchar **controllers = g_strsplit (part[1], ",", -1);

      if (part[1][0] == '\0')
        left = groups_available (CGROUP_ROOT, part[2], TRUE);
      else if (g_strv_contains ((const gchar * const *) controllers, "memory"))
        left = groups_available (CGROUP_ROOT "/memory", part[2], FALSE);
      g_strfreev (controllers);
    }
    least = MIN (least, left);
    g_strfreev (part);
  }
  g_strfreev (lines);
  g_free (text);
  return least;
}

guint64
gst_dcae_memory_available (void)
{
  guint64 kib = 0, system = UNLIMITED, available;

  if (read_number ("/proc/meminfo", "MemAvailable:", &kib))
    system = kib * 1024;

  available = MIN (system, cgroup_available ());
  return available == UNLIMITED ? 0 : available;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_memory.c - see dcae_memory.h. Page cache that a group could drop counts as free, and what a
 * group is throttled at (memory.high) as its limit: beyond that a process hardly moves. Reads files
 * below /proc and /sys; knows no plans.
 */
#include "dcae_memory.h"

#include <string.h>

#define UNKNOWN G_MAXUINT64
#define GROUPS "sys/fs/cgroup"

/* Names of one version's files. */
typedef struct {
    const char *limits[2], *used, *cache; /* cache: a line of memory.stat */
} Version;

static const Version version1 = {
    {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file "};
static const Version version2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file "};

/* The number behind key at the start of a line of folder/file; UNKNOWN where there is none. An
 * empty key reads a file that holds one number ("max" is none). */
static guint64 read_number(const char *folder, const char *file, const char *key)
{
    g_autofree char *path = g_build_filename(folder, file, NULL), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return UNKNOWN;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!g_str_has_prefix(line, key))
            continue;
        const char *number = line + strlen(key);
        number += strspn(number, " \t");
        if (g_ascii_isdigit(*number))
            return g_ascii_strtoull(number, NULL, 10);
    }
    return UNKNOWN;
}

static void bound(DcaeMemory *memory, const char *folder, const Version *version)
{
    guint64 limit = UNKNOWN;
    for (guint i = 0; i < G_N_ELEMENTS(version->limits) && version->limits[i]; i++)
        limit = MIN(limit, read_number(folder, version->limits[i], ""));
    guint64 used = read_number(folder, version->used, "");
    memory->total = MIN(memory->total, limit);
    if (limit == UNKNOWN || used == UNKNOWN)
        return;
    guint64 cache = read_number(folder, "memory.stat", version->cache);
    used -= cache == UNKNOWN ? 0 : MIN(cache, used);
    memory->available = MIN(memory->available, limit > used ? limit - used : 0);
}

/* A group and its ancestors. In a container the path names a group of the host, which may not be
 * visible: the root that is mounted there is then the container's own group, and is always looked
 * at. */
static void bound_by_groups(DcaeMemory *memory, const char *mount, const char *group,
                            const Version *version)
{
    g_autofree char *path = g_strdup(group);
    bound(memory, mount, version);
    while (path[0] == '/' && path[1] != '\0') {
        g_autofree char *folder = g_build_filename(mount, path, NULL);
        bound(memory, folder, version);
        *strrchr(path, '/') = '\0';
    }
}

/* One line of /proc/self/cgroup: "0::/path" for version 2, "number:controllers:/path" for 1. A path
 * with ".." leads out of what is mounted. */
static void bound_by_line(DcaeMemory *memory, const char *root, const char *line)
{
    g_auto(GStrv) part = g_strsplit(line, ":", 3);
    if (g_strv_length(part) != 3)
        return;
    gboolean outside = strstr(part[2], "/../") || g_str_has_suffix(part[2], "/..");
    const char *group = outside ? "/" : part[2];
    g_auto(GStrv) controllers = g_strsplit(part[1], ",", -1);
    gboolean second = part[1][0] == '\0';
    g_autofree char *mount = g_build_filename(root, GROUPS, second ? NULL : "memory", NULL);
    if (second)
        bound_by_groups(memory, mount, group, &version2);
    else if (g_strv_contains((const char *const *)controllers, "memory"))
        bound_by_groups(memory, mount, group, &version1);
}

DcaeMemory dcae_memory_read(const char *root)
{
    g_autofree char *proc = g_strconcat(root, "/proc", NULL), *top = g_strconcat(root, "/", NULL);
    guint64 total = read_number(proc, "meminfo", "MemTotal:");
    guint64 available = read_number(proc, "meminfo", "MemAvailable:");
    DcaeMemory memory = {total == UNKNOWN ? UNKNOWN : total * 1024,
                         available == UNKNOWN ? UNKNOWN : available * 1024};
    g_autofree char *path = g_build_filename(proc, "self", "cgroup", NULL), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return memory;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++)
        bound_by_line(&memory, top, lines[i]);
    return memory;
}

guint64 dcae_memory_available(void)
{
    guint64 available = dcae_memory_read("").available;
    return available == UNKNOWN ? 0 : available;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_memory.c - what a process may have of the machine's memory, from files of made-up machines:
 * without control groups, with groups of both versions, in a container that doesn't see its group's
 * path, and with what can't be read.
 */
#include <glib/gstdio.h>

#include "dcae_memory.h"

#define MIB ((guint64)1 << 20)
#define MAX_FILES 12

/* Each file's path below the root, and its text. */
typedef struct {
    const char *name;
    const char *files[MAX_FILES][2];
    guint64 total, available; /* MiB; 0: unknown */
} Machine;

#define MEMINFO                                                                           \
    {                                                                                     \
        "proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n" \
    }
#define CGROUP(text)             \
    {                            \
        "proc/self/cgroup", text \
    }
#define GROUP2 "sys/fs/cgroup/user.slice/job/"
#define GROUP1 "sys/fs/cgroup/memory/docker/job/"

static const Machine machines[] = {
    {"nothing", {{NULL, NULL}}, 0, 0},
    {"no-groups", {MEMINFO}, 8192, 4096},
    {"v2-max",
     {MEMINFO,
      CGROUP("0::/user.slice/job\n"),
      {GROUP2 "memory.max", "1073741824\n"},
      {GROUP2 "memory.high", "max\n"},
      {GROUP2 "memory.current", "419430400\n"},
      {GROUP2 "memory.stat", "anon 1\ninactive_file 104857600\nactive_file 7\n"}},
     1024,
     724},
    {"v2-high",
     {MEMINFO,
      CGROUP("0::/user.slice/job\n"),
      {GROUP2 "memory.max", "max\n"},
      {GROUP2 "memory.high", "536870912\n"},
      {GROUP2 "memory.current", "104857600\n"}},
     512,
     412},
    {"v2-high-below-max",
     {MEMINFO,
      CGROUP("0::/user.slice/job\n"),
      {GROUP2 "memory.max", "1073741824\n"},
      {GROUP2 "memory.high", "536870912\n"},
      {GROUP2 "memory.current", "1048576\n"}},
     512,
     511},
    {"v2-ancestor",
     {MEMINFO,
      CGROUP("0::/user.slice/job\n"),
      {GROUP2 "memory.max", "max\n"},
      {"sys/fs/cgroup/user.slice/memory.max", "2147483648\n"},
      {"sys/fs/cgroup/user.slice/memory.current", "2147483648\n"}},
     2048,
     0},
    {"v2-container",
     {MEMINFO,
      CGROUP("0::/somewhere/on/the/host\n"),
      {"sys/fs/cgroup/memory.max", "1073741824\n"},
      {"sys/fs/cgroup/memory.current", "0\n"}},
     1024,
     1024},
    {"v1",
     {MEMINFO,
      CGROUP("12:cpu,cpuacct:/docker/job\n4:memory:/docker/job\n"),
      {GROUP1 "memory.limit_in_bytes", "1073741824\n"},
      {GROUP1 "memory.usage_in_bytes", "536870912\n"},
      {GROUP1 "memory.stat", "inactive_file 1\ntotal_inactive_file 268435456\n"}},
     1024,
     768},
    {"v1-unlimited",
     {MEMINFO,
      CGROUP("4:memory:/docker/job\n0::/docker/job\n"),
      {GROUP1 "memory.limit_in_bytes", "9223372036854771712\n"},
      {GROUP1 "memory.usage_in_bytes", "536870912\n"}},
     8192,
     4096},
    {"a-limit-above-the-machine",
     {MEMINFO,
      CGROUP("0::/user.slice/job\n"),
      {GROUP2 "memory.max", "1099511627776\n"},
      {GROUP2 "memory.current", "0\n"}},
     8192,
     4096},
    /* The group lies outside what the container sees, as systems name it then. */
    {"v2-outside",
     {MEMINFO,
      CGROUP("0::/../job\n"),
      {"sys/fs/cgroup/memory.max", "1073741824\n"},
      {"sys/fs/cgroup/memory.current", "1048576\n"},
      {"sys/fs/job/memory.max", "1\n"}},
     1024,
     1023},
    /* Two dots in a name are none of that. */
    {"v2-dots",
     {MEMINFO,
      CGROUP("0::/a..b/job\n"),
      {"sys/fs/cgroup/a..b/memory.max", "1073741824\n"},
      {"sys/fs/cgroup/a..b/memory.current", "1048576\n"}},
     1024,
     1023},
    {"odd",
     {MEMINFO,
      CGROUP("0::/../..\nmemory\n:::\n4:memory\n0::\n"),
      {"memory.max", "1\n"},
      {"sys/memory.max", "1\n"},
      {"sys/fs/cgroup/memory.max", "lots\n"}},
     8192,
     4096},
};

static void write_file(const char *root, const char *path, const char *text)
{
    g_autofree char *full = g_build_filename(root, path, NULL);
    g_autofree char *folder = g_path_get_dirname(full);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_file_set_contents(full, text, -1, &error);
    g_assert_no_error(error);
}

static void remove_all(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);
        remove_all(inner);
    }
    if (dir)
        g_dir_close(dir);
    g_remove(path);
}

static void test_machine(gconstpointer data)
{
    const Machine *m = data;
    g_autofree char *root = g_dir_make_tmp("dcae-memory-XXXXXX", NULL);

    g_assert_nonnull(root);
    for (guint i = 0; i < MAX_FILES && m->files[i][0]; i++)
        write_file(root, m->files[i][0], m->files[i][1]);
    DcaeMemory memory = dcae_memory_read(root);
    remove_all(root);
    if (m->total == 0) {
        g_assert_cmpuint(memory.total, ==, G_MAXUINT64);
        g_assert_cmpuint(memory.available, ==, G_MAXUINT64);
        return;
    }
    g_assert_cmpuint(memory.total, ==, m->total * MIB);
    g_assert_cmpuint(memory.available, ==, m->available * MIB);
}

/* Whatever this machine says. */
static void test_here(void)
{
    DcaeMemory memory = dcae_memory_read("");

    g_assert_cmpuint(memory.total, >, 0);
    g_assert_cmpuint(memory.available, <=, memory.total);
    g_assert_cmpuint(dcae_memory_available(), <=, memory.total);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autofree char *path = g_strconcat("/memory/", machines[i].name, NULL);
        g_test_add_data_func(path, &machines[i], test_machine);
    }
    g_test_add_func("/memory/here", test_here);
    return g_test_run();
}

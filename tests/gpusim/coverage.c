/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which PTX instructions some lane has executed, over all modules of the process. The report is a
 * text file of one line per instruction: hits, module (g_str_hash() of its text), kernel, PTX line,
 * text, separated by tabs. Processes that name the same file add to it, so a whole test run gives
 * one report, and lines that begin with 0 are what no test executes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cuda_types.h"
#include "gpusim.h"
#include "ptx.h"

static GPtrArray *modules;  /* PtxModule, still loaded */
static GHashTable *counted; /* "module\tkernel\tline\ttext" -> Count, of unloaded modules */

typedef struct {
    uint64_t hits, conflicts;
} Count;

static void add_count(GHashTable *table, char *key, Count count)
{
    Count *old = g_hash_table_lookup(table, key);
    if (old) {
        old->hits += count.hits;
        old->conflicts += count.conflicts;
        g_free(key);
        return;
    }
    g_hash_table_insert(table, key, g_memdup2(&count, sizeof count));
}

static void count_module(GHashTable *table, const PtxModule *m)
{
    const guint module = g_str_hash(m->text);
    char **lines = g_strsplit(m->text, "\n", -1);
    for (guint i = 0; i < m->lines->len; i++) {
        const uint32_t line = g_array_index(m->lines, uint32_t, i);
        const PtxKernel *k = g_array_index(m->owners, PtxKernel *, i);
        char *text = g_strstrip(g_strdelimit(g_strdup(lines[line - 1]), "\t", ' '));
        if (strcmp(text, "}")) /* the end that every kernel is given, usually behind its own ret */
            add_count(table, g_strdup_printf("%08x\t%s\t%u\t%s", module, k->name, line, text),
                      (Count){m->hits[i], m->conflicts[i]});
        g_free(text);
    }
    g_strfreev(lines);
}

void coverage_add_module(PtxModule *m)
{
    if (!modules)
        modules = g_ptr_array_new();
    g_ptr_array_add(modules, m);
}

void coverage_drop_module(PtxModule *m)
{
    if (!counted)
        counted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    count_module(counted, m);
    g_ptr_array_remove(modules, m);
}

/* All counts so far, in a table of its own. */
static GHashTable *collect(void)
{
    GHashTable *table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    GHashTableIter i;
    gpointer key, value;
    if (counted) {
        g_hash_table_iter_init(&i, counted);
        while (g_hash_table_iter_next(&i, &key, &value))
            add_count(table, g_strdup(key), *(Count *)value);
    }
    for (guint m = 0; modules && m < modules->len; m++)
        count_module(table, modules->pdata[m]);
    return table;
}

static void add_file(GHashTable *table, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, f) > 0) {
        char *tab = strchr(line, '\t');
        if (!tab)
            continue;
        line[strcspn(line, "\n")] = 0;
        add_count(table, g_strdup(tab + 1), (Count){.hits = strtoull(line, NULL, 10)});
    }
    free(line);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void coverage_write(const char *path)
{
    GHashTable *table = collect();
    const int fd = open(path, O_RDWR | O_CREAT, 0666);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r+");
    if (f && flock(fd, LOCK_EX) == 0) {
        add_file(table, f);
        rewind(f);
        if (ftruncate(fd, 0) == 0) {
            guint n;
            gpointer *keys = g_hash_table_get_keys_as_array(table, &n);
            qsort(keys, n, sizeof *keys, compare_keys);
            for (guint i = 0; i < n; i++)
                fprintf(f, "%" G_GUINT64_FORMAT "\t%s\n",
                        ((Count *)g_hash_table_lookup(table, keys[i]))->hits,
                        (const char *)keys[i]);
            g_free(keys);
        }
    }
    if (f)
        fclose(f);
    g_hash_table_destroy(table);
}

void coverage_write_conflicts(FILE *f)
{
    GHashTable *table = collect();
    GHashTableIter i;
    gpointer key, value;
    g_hash_table_iter_init(&i, table);
    while (g_hash_table_iter_next(&i, &key, &value))
        if (((Count *)value)->conflicts)
            fprintf(f, "conflict,%" G_GUINT64_FORMAT ",%s\n", ((Count *)value)->conflicts,
                    g_strdelimit(key, "\t", ','));
    g_hash_table_destroy(table);
}

SIM_EXPORT void gpusim_coverage_lines(GpusimLine line, void *data)
{
    GHashTable *table = collect();
    guint n;
    gpointer *keys = g_hash_table_get_keys_as_array(table, &n);
    qsort(keys, n, sizeof *keys, compare_keys);
    for (guint i = 0; i < n; i++) {
        const Count *count = g_hash_table_lookup(table, keys[i]);
        line(keys[i], count->hits, count->conflicts, data);
    }
    g_free(keys);
    g_hash_table_destroy(table);
}

SIM_EXPORT void gpusim_coverage(unsigned *instructions, unsigned *never_executed)
{
    GHashTable *table = collect();
    GHashTableIter i;
    gpointer key, value;
    *instructions = *never_executed = 0;
    g_hash_table_iter_init(&i, table);
    while (g_hash_table_iter_next(&i, &key, &value)) {
        ++*instructions;
        *never_executed += ((Count *)value)->hits == 0;
    }
    g_hash_table_destroy(table);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz_main.c - replays a corpus: runs a fuzz target on each file of the folders that are given,
 * and on each file cut to every length. Prints TAP.
 */
#include "fuzz.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

/* Copies of exactly the right size, so that a sanitizer sees a byte read too far. */
static void run(const char *data, gsize size)
{
    guint8 *copy = g_malloc(size + (size == 0));
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    g_free(copy);
}

static gboolean replay(const char *path)
{
    char *data;
    gsize size;
    if (!g_file_get_contents(path, &data, &size, NULL))
        return FALSE;
    gsize step = MAX(size / 512, 1);
    for (gsize n = 0; n < size; n += step)
        run(data, n);
    run(data, size);
    g_free(data);
    return TRUE;
}

int main(int argc, char **argv)
{
    int n = 0, bad = 0;
    for (int i = 1; i < argc; i++) {
        GDir *dir = g_dir_open(argv[i], 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name(dir))) {
            char *path = g_build_filename(argv[i], name, NULL);
            gboolean ok = replay(path);
            bad += !ok;
            printf("%sok %d - %s\n", ok ? "" : "not ", ++n, name);
            g_free(path);
        }
        if (dir)
            g_dir_close(dir);
    }
    printf("1..%d\n", n);
    return bad > 0 || n == 0;
}

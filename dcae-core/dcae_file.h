/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_file.h - reading regular files that may be cut, swapped or something else than they seem.
 * Knows errno and messages; nothing of what the files hold.
 */
#ifndef DCAE_FILE_H
#define DCAE_FILE_H

#include "dcae.h"

#include <sys/stat.h>

/* Opens a regular file for reading (links are followed; anything else, such as a pipe or a device,
 * is refused without waiting for it). Returns a descriptor to be closed with close(), or -1 with
 * NOT_FOUND or READ. *status may be NULL. */
int dcae_file_open(const char *path, struct stat *status, GError **error);

/* Reads exactly size bytes at offset. path is for the message. Errors: READ. Thread-safe. */
gboolean dcae_file_read(int fd, const char *path, guint64 offset, void *buffer, gsize size,
                        GError **error);

/* The text of a file of at most limit bytes, NUL-terminated; free with g_free(). A NUL inside is an
 * error. Errors: NOT_FOUND, READ, FORMAT. */
char *dcae_file_text(const char *path, gsize limit, GError **error);

#endif

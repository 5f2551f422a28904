/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_file.c - the file access declared in dcae_file.h. Files are read with pread() and never
 * mapped: a file that another process cuts is then a short read with a message, not a SIGBUS.
 */
#include "dcae_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int dcae_file_open(const char *path, struct stat *status, GError **error)
{
    struct stat local;
    if (!status)
        status = &local;
    /* O_NONBLOCK: a pipe without a writer would wait for one. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, status) != 0) {
        int code = errno;
        char *name = g_filename_display_name(path);
        g_set_error(error, DCAE_ERROR, code == ENOENT ? DCAE_ERROR_NOT_FOUND : DCAE_ERROR_READ,
                    "%s: can't be opened: %s", name, g_strerror(code));
        g_free(name);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(status->st_mode)) {
        char *name = g_filename_display_name(path);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_READ, "%s: is no regular file", name);
        g_free(name);
        close(fd);
        return -1;
    }
    return fd;
}

gboolean dcae_file_read(int fd, const char *path, guint64 offset, void *buffer, gsize size,
                        GError **error)
{
    guint8 *place = buffer;
    while (size > 0) {
        gssize n = pread(fd, place, MIN(size, (gsize)1 << 30), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int code = errno;
            char *name = g_filename_display_name(path);
            g_set_error(error, DCAE_ERROR, DCAE_ERROR_READ, "%s: can't be read: %s", name,
                        n == 0 ? "the file ends too early" : g_strerror(code));
            g_free(name);
            return FALSE;
        }
        place += n;
        offset += (guint64)n;
        size -= (gsize)n;
    }
    return TRUE;
}

static gboolean check_text(const char *text, gsize size, const char *path, GError **error)
{
    if (!memchr(text, 0, size))
        return TRUE;
    char *name = g_filename_display_name(path);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: is no text file", name);
    g_free(name);
    return FALSE;
}

char *dcae_file_text(const char *path, gsize limit, GError **error)
{
    struct stat status;
    int fd = dcae_file_open(path, &status, error);
    if (fd < 0)
        return NULL;
    char *text = NULL;
    gsize size = (gsize)status.st_size;
    if (size > limit) {
        char *name = g_filename_display_name(path);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT,
                    "%s: has %" G_GSIZE_FORMAT " bytes, at most %" G_GSIZE_FORMAT " are allowed",
                    name, size, limit);
        g_free(name);
    } else {
        text = g_malloc(size + 1);
        text[size] = 0;
        if (!dcae_file_read(fd, path, 0, text, size, error) || !check_text(text, size, path, error))
            g_clear_pointer(&text, g_free);
    }
    close(fd);
    return text;
}

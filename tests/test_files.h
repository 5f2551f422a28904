/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_files.h - writes little safetensors files and directories for tests. Everything goes into
 * one temporary folder that test_folder_remove() deletes.
 */
#ifndef TEST_FILES_H
#define TEST_FILES_H

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* A safetensors file in the making. */
typedef struct {
    GString *header;
    GByteArray *data;
    guint64 sparse; /* bytes of tensors that are left to be a hole */
} TestFile;

static inline TestFile test_file_new(void)
{
    return (TestFile){g_string_new("{\"__metadata__\":{\"format\":\"pt\"}"), g_byte_array_new(), 0};
}

static inline guint64 test_count(const guint64 *shape, guint rank)
{
    guint64 count = 1;
    for (guint i = 0; i < rank; i++)
        count *= shape[i];
    return count;
}

static inline void test_file_describe(TestFile *file, const char *name, const char *dtype,
                                      const guint64 *shape, guint rank, guint64 begin, guint64 end)
{
    g_string_append_printf(file->header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype);
    for (guint i = 0; i < rank; i++)
        g_string_append_printf(file->header, "%s%" G_GUINT64_FORMAT, i ? "," : "", shape[i]);
    g_string_append_printf(file->header,
                           "],\"data_offsets\":[%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT "]}",
                           begin, end);
}

static inline void test_file_add(TestFile *file, const char *name, const char *dtype,
                                 const guint64 *shape, guint rank, const void *bytes, gsize size)
{
    test_file_describe(file, name, dtype, shape, rank, file->data->len, file->data->len + size);
    g_byte_array_append(file->data, bytes, (guint)size);
}

/* A tensor of f32 zeros at the end of the file, which takes no room on the disk. No data may be
 * added after it. */
static inline void test_file_add_hole(TestFile *file, const char *name, const guint64 *shape,
                                      guint rank)
{
    guint64 begin = file->data->len + file->sparse, size = 4 * test_count(shape, rank);
    test_file_describe(file, name, "F32", shape, rank, begin, begin + size);
    file->sparse += size;
}

static inline void test_write(const char *path, const void *bytes, gsize size)
{
    GError *error = NULL;
    g_file_set_contents(path, bytes, (gssize)size, &error);
    g_assert_no_error(error);
}

/* Writes a header of any text, and data of any size. */
static inline void test_write_raw(const char *path, const char *header, guint64 length,
                                  const void *data, gsize data_size)
{
    GByteArray *bytes = g_byte_array_new();
    guint64 little = GUINT64_TO_LE(length);
    g_byte_array_append(bytes, (const guint8 *)&little, 8);
    g_byte_array_append(bytes, (const guint8 *)header, (guint)strlen(header));
    g_byte_array_append(bytes, data, (guint)data_size);
    test_write(path, bytes->data, bytes->len);
    g_byte_array_free(bytes, TRUE);
}

/* Writes the file and frees it. */
static inline void test_file_write(TestFile *file, const char *path)
{
    g_string_append_c(file->header, '}');
    test_write_raw(path, file->header->str, file->header->len, file->data->data, file->data->len);
    if (file->sparse)
        g_assert_cmpint(
            truncate(path, (off_t)(8 + file->header->len + file->data->len + file->sparse)), ==, 0);
    g_string_free(file->header, TRUE);
    g_byte_array_free(file->data, TRUE);
}

static inline char *test_folder_new(void)
{
    GError *error = NULL;
    char *path = g_dir_make_tmp("dcae-test-XXXXXX", &error);
    g_assert_no_error(error);
    return path;
}

static inline void test_folder_remove(const char *path)
{
    GDir *dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        char *inner = g_build_filename(path, name, NULL);
        test_folder_remove(inner);
        g_free(inner);
    }
    if (dir)
        g_dir_close(dir);
    g_remove(path);
}

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_checkpoint.c - opens weight files, finds tensors in them whatever the layout, and converts
 * them to f32. Data are read with pread() in small pieces straight into the caller's memory, so
 * nothing of a file stays in the process, and a file that shrinks is an error message. Knows no
 * configuration.
 */
#include "dcae_checkpoint.h"

#include "dcae_file.h"
#include "dcae_names.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define CHUNK 65536 /* elements that are converted at once */

typedef struct {
    char *name; /* for messages: valid UTF-8 */
    char *path;
    int fd;
    struct stat status; /* when it was opened */
    guint64 data_begin;
    DcaeSafetensorsHeader *header;
} WeightFile;

struct _DcaeCheckpoint {
    guint n_files;
    WeightFile *files;
    char *key;
    const char *wrapper; /* what stands before every name */
    gboolean original;
};

G_GNUC_PRINTF(4, 5)
static gboolean fail(GError **error, DcaeError code, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, DCAE_ERROR, (int)code, "%s: %s", name, text);
    g_free(text);
    return FALSE;
}

/* ---- opening ---- */

static gboolean read_header(WeightFile *file, guint64 file_size, GError **error)
{
    guint64 size = 0;
    if (file_size < 8)
        return fail(error, DCAE_ERROR_FORMAT, file->name,
                    "is no safetensors file: it has only %" G_GUINT64_FORMAT " bytes", file_size);
    if (!dcae_file_read(file->fd, file->path, 0, &size, 8, error))
        return FALSE;
    if (memcmp(&size, "PK\3\4", 4) == 0)
        return fail(error, DCAE_ERROR_FORMAT, file->name,
                    "is a zip archive, perhaps a PyTorch checkpoint; only safetensors files can be "
                    "read");
    size = GUINT64_FROM_LE(size);
    if (size > file_size - 8)
        return fail(error, DCAE_ERROR_FORMAT, file->name,
                    "the header's length is %" G_GUINT64_FORMAT ", but the file has only "
                    "%" G_GUINT64_FORMAT " bytes: it is cut short or no safetensors file",
                    size, file_size);
    if (size > 100u * 1000 * 1000)
        return fail(error, DCAE_ERROR_FORMAT, file->name,
                    "the header has %" G_GUINT64_FORMAT " bytes, more than 100 MB", size);
    guint8 *text = g_malloc((gsize)size + 1);
    if (dcae_file_read(file->fd, file->path, 8, text, (gsize)size, error))
        file->header = dcae_safetensors_header_parse(text, (gsize)size, file->name, error);
    g_free(text);
    file->data_begin = 8 + size;
    return file->header != NULL;
}

static gboolean open_file(WeightFile *file, const char *path, GString *key, GError **error)
{
    file->path = g_strdup(path);
    file->name = g_filename_display_name(path);
    file->fd = dcae_file_open(path, &file->status, error);
    if (file->fd < 0 || !read_header(file, (guint64)file->status.st_size, error))
        return FALSE;
    guint64 data_size = dcae_safetensors_header_data_size(file->header);
    guint64 have = (guint64)file->status.st_size - file->data_begin;
    if (data_size != have)
        return fail(error, DCAE_ERROR_FORMAT, file->name,
                    "has %" G_GUINT64_FORMAT " bytes of data, its header describes "
                    "%" G_GUINT64_FORMAT ": the file is %s",
                    have, data_size, have < data_size ? "cut short" : "too long");
    char *real = realpath(path, NULL);
    g_string_append_printf(
        key, "%s:%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld;",
        real ? real : path, (guint64)file->status.st_ino, (guint64)file->status.st_size,
        (gint64)file->status.st_mtim.tv_sec, (long)file->status.st_mtim.tv_nsec);
    free(real);
    return TRUE;
}

/* Tensors that begin with a wrapper and look like one layout. */
static guint count_names(const DcaeCheckpoint *checkpoint, const char *wrapper,
                         const char *const *begins)
{
    guint count = 0;
    gsize skip = strlen(wrapper);
    for (guint f = 0; f < checkpoint->n_files; f++) {
        const DcaeSafetensorsHeader *header = checkpoint->files[f].header;
        for (guint i = 0; i < dcae_safetensors_header_n_tensors(header); i++) {
            const char *name = dcae_safetensors_header_nth(header, i)->name;
            if (!g_str_has_prefix(name, wrapper))
                continue;
            for (guint k = 0; begins[k]; k++)
                if (g_str_has_prefix(name + skip, begins[k]))
                    count++;
        }
    }
    return count;
}

static gboolean detect_layout(DcaeCheckpoint *checkpoint, GError **error)
{
    static const char *const wrappers[] = {"", "state_dict.", "model.", "module."};
    static const char *const layouts[2][7] = {
        {"encoder.down_blocks.", "encoder.conv_in.", "encoder.conv_out.", "decoder.up_blocks.",
         "decoder.conv_in.", "decoder.conv_out.", NULL},
        {"encoder.stages.", "encoder.project_in.", "encoder.project_out.", "decoder.stages.",
         "decoder.project_in.", "decoder.project_out.", NULL}};
    guint best = 0;
    for (guint w = 0; w < G_N_ELEMENTS(wrappers); w++)
        for (guint layout = 0; layout < 2; layout++) {
            guint count = count_names(checkpoint, wrappers[w], layouts[layout]);
            if (count <= best)
                continue;
            best = count;
            checkpoint->wrapper = wrappers[w];
            checkpoint->original = layout == 1;
        }
    return best > 0 || fail(error, DCAE_ERROR_WEIGHTS, checkpoint->files[0].name,
                            "holds no AutoencoderDC: there is no tensor named encoder.… or "
                            "decoder.… as in Diffusers' or the original layout");
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static gboolean check_shards(const DcaeCheckpoint *checkpoint, GError **error)
{
    if (checkpoint->n_files < 2)
        return TRUE;
    gboolean ok = TRUE;
    GPtrArray *names = g_ptr_array_new();
    for (guint f = 0; f < checkpoint->n_files; f++) {
        const DcaeSafetensorsHeader *header = checkpoint->files[f].header;
        for (guint i = 0; i < dcae_safetensors_header_n_tensors(header); i++)
            g_ptr_array_add(names, (gpointer)dcae_safetensors_header_nth(header, i)->name);
    }
    g_ptr_array_sort(names, compare_names);
    for (guint i = 1; i < names->len && ok; i++)
        if (strcmp(names->pdata[i - 1], names->pdata[i]) == 0)
            ok = fail(error, DCAE_ERROR_WEIGHTS, checkpoint->files[0].name,
                      "tensor '%s' is in more than one shard", (const char *)names->pdata[i]);
    g_ptr_array_free(names, TRUE);
    return ok;
}

DcaeCheckpoint *dcae_checkpoint_open(const char *const *paths, guint n_paths, GError **error)
{
    DcaeCheckpoint *checkpoint = g_new0(DcaeCheckpoint, 1);
    GString *key = g_string_new(NULL);
    gboolean ok = TRUE;
    checkpoint->files = g_new0(WeightFile, n_paths);
    for (guint i = 0; i < n_paths && ok; i++) {
        checkpoint->n_files = i + 1;
        checkpoint->files[i].fd = -1;
        ok = open_file(&checkpoint->files[i], paths[i], key, error);
    }
    checkpoint->key = g_string_free(key, FALSE);
    if (ok && check_shards(checkpoint, error) && detect_layout(checkpoint, error))
        return checkpoint;
    dcae_checkpoint_free(checkpoint);
    return NULL;
}

void dcae_checkpoint_free(DcaeCheckpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (guint i = 0; i < checkpoint->n_files; i++) {
        WeightFile *file = &checkpoint->files[i];
        if (file->fd >= 0)
            close(file->fd);
        dcae_safetensors_header_free(file->header);
        g_free(file->path);
        g_free(file->name);
    }
    g_free(checkpoint->files);
    g_free(checkpoint->key);
    g_free(checkpoint);
}

const char *dcae_checkpoint_name(const DcaeCheckpoint *checkpoint)
{
    return checkpoint->files[0].name;
}

const char *dcae_checkpoint_key(const DcaeCheckpoint *checkpoint)
{
    return checkpoint->key;
}

gboolean dcae_checkpoint_is_original(const DcaeCheckpoint *checkpoint)
{
    return checkpoint->original;
}

/* ---- finding ---- */

static const DcaeTensor *find_stored(const DcaeCheckpoint *checkpoint, const char *name,
                                     guint *file)
{
    const DcaeTensor *tensor = NULL;
    char *full = *checkpoint->wrapper ? g_strconcat(checkpoint->wrapper, name, NULL) : NULL;
    for (guint f = 0; f < checkpoint->n_files && !tensor; f++) {
        tensor = dcae_safetensors_header_find(checkpoint->files[f].header, full ? full : name);
        *file = f;
    }
    g_free(full);
    return tensor;
}

gboolean dcae_checkpoint_has_stored(const DcaeCheckpoint *checkpoint, const char *name)
{
    guint file;
    return find_stored(checkpoint, name, &file) != NULL;
}

static const DcaeTensor *find_original(const DcaeCheckpoint *checkpoint, const char *name,
                                       guint *file, guint *part)
{
    const DcaeTensor *tensor = NULL;
    GString *original = g_string_new(NULL);
    for (guint i = 0; i < DCAE_NAMES_MAX_SPELLINGS && !tensor; i++)
        if (dcae_names_to_original(name, i, original, part))
            tensor = find_stored(checkpoint, original->str, file);
    g_string_free(original, TRUE);
    return tensor;
}

gboolean dcae_checkpoint_find(const DcaeCheckpoint *checkpoint, const char *name, DcaeFound *found)
{
    guint part = 0;
    *found = (DcaeFound){0};
    found->stored = checkpoint->original ? find_original(checkpoint, name, &found->file, &part)
                                         : find_stored(checkpoint, name, &found->file);
    if (!found->stored)
        return FALSE;
    found->rank = found->stored->rank;
    memcpy(found->shape, found->stored->shape, sizeof found->shape);
    found->part = part;
    if (part > 0)
        found->shape[0] /= 3;
    found->count = 1;
    /* Can't overflow for the types that are read: the header checked the product with their size;
     * for the others nothing is read. */
    for (guint i = 0; i < found->rank; i++)
        found->count *= found->shape[i];
    found->first = part > 0 ? (part - 1) * found->count : 0;
    return TRUE;
}

static gboolean same_shape(const DcaeFound *found, const guint64 *shape, guint rank)
{
    guint shorter = MIN(found->rank, rank), longer = MAX(found->rank, rank);
    if (found->part > 0 && (found->rank == 0 || found->stored->shape[0] % 3 != 0))
        return FALSE;
    const guint64 *tail = found->rank > rank ? found->shape : shape;
    if (longer != shorter && (shorter != 2 || longer != 4 || tail[2] != 1 || tail[3] != 1))
        return FALSE;
    for (guint i = 0; i < shorter; i++)
        if (found->shape[i] != shape[i])
            return FALSE;
    return TRUE;
}

static char *shape_text(const guint64 *shape, guint rank)
{
    GString *text = g_string_new("[");
    for (guint i = 0; i < rank; i++)
        g_string_append_printf(text, "%s%" G_GUINT64_FORMAT, i ? "," : "", shape[i]);
    g_string_append_c(text, ']');
    return g_string_free(text, FALSE);
}

static gboolean fail_missing(const DcaeCheckpoint *checkpoint, const char *name, GError **error)
{
    guint part;
    GString *original = g_string_new(NULL);
    if (checkpoint->original && dcae_names_to_original(name, 0, original, &part))
        fail(error, DCAE_ERROR_WEIGHTS, checkpoint->files[0].name,
             "tensor '%s' (in the original layout '%s') is missing", name, original->str);
    else
        fail(error, DCAE_ERROR_WEIGHTS, checkpoint->files[0].name, "tensor '%s' is missing", name);
    g_string_free(original, TRUE);
    return FALSE;
}

static gboolean fail_shape(const char *file, const char *name, const DcaeFound *found,
                           const guint64 *shape, guint rank, GError **error)
{
    char *have = shape_text(found->stored->shape, found->stored->rank);
    char *want = shape_text(shape, rank);
    fail(error, DCAE_ERROR_WEIGHTS, file, "tensor '%s' is %s, the configuration wants %s%s",
         found->part ? found->stored->name : name, have, found->part ? "three times " : "", want);
    g_free(have);
    g_free(want);
    return FALSE;
}

gboolean dcae_checkpoint_want(const DcaeCheckpoint *checkpoint, const char *name,
                              const guint64 *shape, guint rank, DcaeFound *found, GError **error)
{
    if (!dcae_checkpoint_find(checkpoint, name, found))
        return fail_missing(checkpoint, name, error);
    const char *file = checkpoint->files[found->file].name;
    if (!same_shape(found, shape, rank))
        return fail_shape(file, name, found, shape, rank, error);
    switch (found->stored->dtype) {
    case DCAE_DTYPE_F32:
    case DCAE_DTYPE_F16:
    case DCAE_DTYPE_BF16:
    case DCAE_DTYPE_F64:
        return TRUE;
    default:
        return fail(error, DCAE_ERROR_WEIGHTS, file,
                    "tensor '%s' has type %s, but weights must be F32, F16 or BF16", name,
                    found->stored->dtype_name);
    }
}

/* ---- reading ---- */

static float half_to_float(guint16 half)
{
    guint32 sign = (guint32)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    guint32 mantissa = half & 0x3ff, bits;
    float value;
    if (exponent == 0) {
        value = ldexpf((float)mantissa, -24);
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, 4);
    return value;
}

static guint type_size(DcaeDtype dtype)
{
    return dtype == DCAE_DTYPE_F64 ? 8 : dtype == DCAE_DTYPE_F32 ? 4 : 2;
}

/* n elements of the stored type at src, at most CHUNK, become floats. */
static void convert(DcaeDtype dtype, const void *src, float *dst, gsize n)
{
    const guint16 *words = src;
    const guint64 *longs = src;
    switch (dtype) {
    case DCAE_DTYPE_F16:
        for (gsize i = 0; i < n; i++)
            dst[i] = half_to_float(GUINT16_FROM_LE(words[i]));
        break;
    case DCAE_DTYPE_BF16:
        for (gsize i = 0; i < n; i++) {
            guint32 value = (guint32)GUINT16_FROM_LE(words[i]) << 16;
            memcpy(&dst[i], &value, 4);
        }
        break;
    case DCAE_DTYPE_F64:
        for (gsize i = 0; i < n; i++) {
            guint64 value = GUINT64_FROM_LE(longs[i]);
            double number;
            memcpy(&number, &value, 8);
            dst[i] = (float)number;
        }
        break;
    default:
        for (gsize i = 0; i < n && G_BYTE_ORDER != G_LITTLE_ENDIAN; i++) {
            guint32 bits;
            memcpy(&bits, &dst[i], 4);
            bits = GUINT32_FROM_LE(bits);
            memcpy(&dst[i], &bits, 4);
        }
    }
}

/* Written so that it vectorises: the largest exponent decides. */
static gboolean all_finite(const float *values, gsize n)
{
    guint32 bad = 0;
    for (gsize i = 0; i < n; i++) {
        guint32 bits;
        memcpy(&bits, &values[i], 4);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

/* The header was checked once; data of another version of the file mean something else. */
static gboolean check_unchanged(const WeightFile *file, GError **error)
{
    const struct stat *then = &file->status;
    struct stat now;

    if (fstat(file->fd, &now) == 0 && now.st_size == then->st_size &&
        now.st_mtim.tv_sec == then->st_mtim.tv_sec && now.st_mtim.tv_nsec == then->st_mtim.tv_nsec)
        return TRUE;
    return fail(error, DCAE_ERROR_READ, file->name,
                "was changed after the model had been opened; open it again");
}

gboolean dcae_checkpoint_read(const DcaeCheckpoint *checkpoint, const DcaeFound *found,
                              guint64 first, guint64 count, float *dst, GError **error)
{
    const WeightFile *file = &checkpoint->files[found->file];
    DcaeDtype dtype = found->stored->dtype;
    guint64 place =
        file->data_begin + found->stored->begin + (found->first + first) * type_size(dtype);
    gboolean direct = dtype == DCAE_DTYPE_F32, ok = TRUE;
    void *buffer = direct ? NULL : g_malloc((gsize)CHUNK * type_size(dtype));
    for (guint64 done = 0; done < count && ok; done += CHUNK) {
        gsize n = (gsize)MIN(count - done, CHUNK), bytes = n * type_size(dtype);
        ok =
            dcae_file_read(file->fd, file->path, place, direct ? dst + done : buffer, bytes, error);
        if (!ok)
            break;
        place += bytes;
        convert(dtype, buffer, dst + done, n);
        if (!all_finite(dst + done, n))
            ok =
                fail(error, DCAE_ERROR_WEIGHTS, file->name,
                     "tensor '%s' holds NaN, infinity or a number beyond f32", found->stored->name);
    }
    g_free(buffer);
    return ok && check_unchanged(file, error);
}

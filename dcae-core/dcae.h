/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae.h - the public interface of libdcae: AutoencoderDC (DC-AE) on the CPU and on CUDA.
 *
 *     DcaeModel *model = dcae_model_open(&(DcaeModelParams){ .path = "dir" }, &error);
 *     DcaeCodecParams params = { .model = model, .direction = DCAE_ENCODE };
 *     DcaeCodec *codec = dcae_codec_new(&params, &error);
 *     DcaeGeometry geometry = { .width = 512, .height = 512, .scale = TRUE };
 *     dcae_codec_configure(codec, &geometry, &error);
 *     dcae_codec_run(codec, &picture, &latent, 1, &error);
 *
 * Conventions. A params struct filled with zeros means "all defaults" and need only live until the
 * call returns. Functions that can fail take a GError ** (NULL allowed) and return FALSE or NULL
 * with an error of domain DCAE_ERROR whose message is one sentence that names the file, tensor,
 * field or call. *_unref and *_free accept NULL. Nothing is printed. Unless a function says
 * otherwise, an object is used by one thread at a time; DcaeModel is immutable and safe to share.
 */
#ifndef DCAE_H
#define DCAE_H

#include <gio/gio.h>
#include <glib.h>

G_BEGIN_DECLS

#if defined(__GNUC__) && !defined(DCAE_STATIC)
#define DCAE_API __attribute__((visibility("default"))) extern
#else
#define DCAE_API extern
#endif

#define DCAE_ERROR (dcae_error_quark())
DCAE_API GQuark dcae_error_quark(void);

typedef enum {
    DCAE_ERROR_NOT_FOUND,   /* no such model, file or variant */
    DCAE_ERROR_READ,        /* a file can't be opened or read */
    DCAE_ERROR_FORMAT,      /* a file is no valid safetensors or JSON file */
    DCAE_ERROR_CONFIG,      /* the configuration is illegal or can't be inferred */
    DCAE_ERROR_WEIGHTS,     /* a tensor is missing, has another shape or type, or is not finite */
    DCAE_ERROR_SETTINGS,    /* a setting that this model, machine or frame size does not allow */
    DCAE_ERROR_SHAPE,       /* a picture or latent that doesn't fit the codec */
    DCAE_ERROR_MEMORY,      /* more memory is needed than the limit or the machine allows */
    DCAE_ERROR_BACKEND,     /* a device or driver call failed */
    DCAE_ERROR_UNSUPPORTED, /* this build or machine can't do it */
    DCAE_ERROR_NOT_FINITE,  /* a frame came out with NaN or infinity */
    DCAE_ERROR_CANCELLED,   /* the cancellable was triggered */
} DcaeError;

typedef enum { DCAE_ENCODE, DCAE_DECODE } DcaeDirection;
typedef enum { DCAE_BACKEND_AUTO, DCAE_BACKEND_CPU, DCAE_BACKEND_CUDA } DcaeBackendKind;
typedef enum {
    DCAE_PRECISION_AUTO,
    DCAE_PRECISION_F32,
    DCAE_PRECISION_BF16,
    DCAE_PRECISION_F16
} DcaePrecision;

/* Instruction sets of the CPU kernels, weakest first. BEST is what the machine has; GENERIC runs on
 * any processor. */
typedef enum { DCAE_ISA_BEST, DCAE_ISA_GENERIC, DCAE_ISA_AVX2, DCAE_ISA_AVX512 } DcaeIsa;

/* ---- safetensors headers ---- */

typedef enum {
    DCAE_DTYPE_OTHER, /* a type that this library does not read (F8_E4M3, U8 …); name is kept in the
                         tensor */
    DCAE_DTYPE_F32,
    DCAE_DTYPE_F16,
    DCAE_DTYPE_BF16,
    DCAE_DTYPE_F64,
    DCAE_DTYPE_I64,
    DCAE_DTYPE_I32,
} DcaeDtype;

#define DCAE_MAX_RANK 8

/* One tensor of a safetensors file. Owned by its header. */
typedef struct {
    const char *name;
    DcaeDtype dtype;
    const char *dtype_name; /* as written in the file */
    guint rank;             /* 0 to DCAE_MAX_RANK */
    guint64 shape[DCAE_MAX_RANK];
    guint64 begin, end; /* byte offsets from the end of the header; begin <= end, checked against
                           shape and dtype */
} DcaeTensor;

/* The parsed and checked JSON header of a safetensors file. Immutable. */
typedef struct _DcaeSafetensorsHeader DcaeSafetensorsHeader;

/* Parses the JSON text of a safetensors header (the bytes after the 8-byte length).
 *
 * json, size  the text; not NUL-terminated, padding spaces at the end allowed; borrowed
 * name        what error messages call the file
 *
 * Checks syntax, duplicate keys, limits (nesting 64, 4096 tensors, names of 1024 bytes), known
 * dtypes against shape and offsets, overflow, overlap and holes: the tensors cover the data section
 * from 0 to dcae_safetensors_header_data_size() exactly. Whether the file has that many bytes is
 * the caller's to check. Free with dcae_safetensors_header_free(). Errors: DCAE_ERROR_FORMAT.
 * Thread-safe. */
DCAE_API DcaeSafetensorsHeader *dcae_safetensors_header_parse(const guint8 *json, gsize size,
                                                              const char *name, GError **error);
DCAE_API void dcae_safetensors_header_free(DcaeSafetensorsHeader *header);
DCAE_API guint64 dcae_safetensors_header_data_size(const DcaeSafetensorsHeader *header);
/* NULL where there is no such tensor. */
DCAE_API const DcaeTensor *dcae_safetensors_header_find(const DcaeSafetensorsHeader *header,
                                                        const char *name);
/* Tensors in ascending order of begin. */
DCAE_API guint dcae_safetensors_header_n_tensors(const DcaeSafetensorsHeader *header);
DCAE_API const DcaeTensor *dcae_safetensors_header_nth(const DcaeSafetensorsHeader *header,
                                                       guint n);
/* The string under __metadata__, or NULL. */
DCAE_API const char *dcae_safetensors_header_metadata(const DcaeSafetensorsHeader *header,
                                                      const char *key);

/* ---- models ---- */

/* Configuration and weight files of one AutoencoderDC. Immutable, reference counted, thread-safe.
 */
typedef struct _DcaeModel DcaeModel;

typedef struct {
    /* A Diffusers directory, a .safetensors single file (either layout), or a Hugging Face
     * repository id, which is looked up in the local cache as huggingface_hub lays it out and never
     * downloaded. Required. */
    const char *path;
    /* Weight file variant in a directory ("fp16", "bf16" …). NULL or "": the plain files. An error
     * with a single file. */
    const char *variant;
    /* Path of a config.json, or name of a released model; overrides a directory's own. NULL or "":
     * the directory's config.json; for a single file inferred from the tensors. */
    const char *config;
    /* Root of the Hugging Face cache; NULL: ~/.cache/huggingface/hub. The caller looks up
     * HF_HUB_CACHE and HF_HOME: the library reads no environment. */
    const char *hub_cache;
    /* TRUE: path is a repository id and nothing else, also where there is a file of that name. For
     * names that come from strangers. */
    gboolean hub_only;
} DcaeModelParams;

typedef struct {
    const char *name;  /* repository id or directory/file base name without suffix; never a path */
    const char *hash;  /* 16 hex digits: SHA-256 over canonical configuration,
                          encoder.conv_out.weight, decoder.conv_in.weight */
    guint ratio;       /* pixels a latent is wide and high: 2^(stages - 1) */
    guint in_channels; /* 3 for pictures; dcae_codec_new() takes no others */
    guint latent_channels;
    double scaling_factor;
    gboolean channel_prefix; /* TRUE: the first k latent channels alone may be used (models without
                                outer shortcuts) */
} DcaeModelInfo;

/* Opens a model: reads and checks config.json and the headers of the weight files; weights are not
 * read yet, except the two tensors of the hash. The files stay open and are read, not mapped, so a
 * file that shrinks later is an error and no crash. Errors: NOT_FOUND (says what to run where a
 * repository is not in the cache, and which variants there are), READ, FORMAT, CONFIG, WEIGHTS.
 * Thread-safe. */
DCAE_API DcaeModel *dcae_model_open(const DcaeModelParams *params, GError **error);
DCAE_API DcaeModel *dcae_model_ref(DcaeModel *model);
DCAE_API void dcae_model_unref(DcaeModel *model);
/* Valid as long as the model. */
DCAE_API const DcaeModelInfo *dcae_model_info(const DcaeModel *model);

/* ---- pictures and latents ---- */

typedef enum { DCAE_COLOR_RGB, DCAE_COLOR_GRAY, DCAE_COLOR_YUV } DcaeColorModel;

/* One colour component of an 8-bit picture. Sample (x, y) of the component is data[y * row_stride +
 * x * pixel_stride]. */
typedef struct {
    guint8 *data;
    gssize row_stride;   /* bytes; any value that stays inside the caller's memory */
    gssize pixel_stride; /* bytes */
} DcaeComponent;

typedef enum { DCAE_MEMORY_HOST, DCAE_MEMORY_CUDA } DcaeMemoryKind;

/* A borrowed 8-bit picture. component[]: R, G, B for RGB; Y for GRAY; Y, U, V for YUV; alpha (or a
 * padding byte) is component[3], data NULL where there is none: ignored on encode, written 255 on
 * decode. */
typedef struct {
    DcaeMemoryKind memory;
    guint width, height;
    DcaeColorModel color;
    DcaeComponent component[4];
    guint chroma_w_shift, chroma_h_shift; /* YUV: 1 and 1 for 4:2:0 (NV12, I420) */
    double kr, kb;       /* YUV: luma weights of the matrix, as 0.2126 and 0.0722 for BT.709 */
    gboolean full_range; /* YUV and GRAY: 0 to 255, else 16 to 235 (chroma 240) */
    double chroma_x, chroma_y; /* YUV: place of a chroma sample inside its 2×2 luma block, in luma
                                  samples from the top left one: 0 = cosited, 0.5 = centred */
} DcaeImage;

typedef enum { DCAE_LATENT_F32, DCAE_LATENT_F16, DCAE_LATENT_BF16 } DcaeLatentFormat;

/* A borrowed latent: planar [c][h][w], little endian, packed. */
typedef struct {
    DcaeMemoryKind memory;
    DcaeLatentFormat format;
    guint c, h, w;
    void *data; /* aligned to its values */
} DcaeLatent;

/* ---- codec ---- */

/* One direction of one model on one backend. */
typedef struct _DcaeCodec DcaeCodec;

/* stage: "model-load" or "model-pack"; fraction: 0 to 1. Called on the thread that called
 * dcae_codec_new(). */
typedef void (*DcaeProgress)(const char *stage, double fraction, void *user_data);

typedef struct {
    DcaeModel *model; /* required; the codec takes a reference of its own */
    DcaeDirection direction;
    DcaeBackendKind backend;   /* AUTO takes CUDA where a device works, else CPU */
    int device;                /* CUDA device number plus one; 0 = any */
    void *cuda_context;        /* CUcontext to work in; NULL: the device's primary context */
    DcaePrecision precision;   /* AUTO: f32 on CPU, bf16 on CUDA */
    guint threads;             /* CPU threads, 0 = all; more than 256 are 256 */
    DcaeIsa max_isa;           /* CPU: strongest instruction set to use; for tests */
    GCancellable *cancellable; /* NULL, or stops loading and running with DCAE_ERROR_CANCELLED; a
                                  reference is kept */
    DcaeProgress progress;     /* NULL, or called while loading */
    void *progress_data;
    gboolean timings; /* for dcae_codec_timings(); costs CUDA an event a step */
} DcaeCodecParams;

/* Loads and packs this direction's weights (seconds and hundreds of MB on real models; shared with
 * every codec of the process that has the same model, direction, backend, device and precision).
 * Free with dcae_codec_free(). Errors: WEIGHTS (names the tensor), UNSUPPORTED, BACKEND, MEMORY,
 * CANCELLED. A codec that waits for another's loading goes on by itself where that one is
 * cancelled or fails. */
DCAE_API DcaeCodec *dcae_codec_new(const DcaeCodecParams *params, GError **error);
DCAE_API void dcae_codec_free(DcaeCodec *codec);
/* "cpu" or "cuda". */
DCAE_API const char *dcae_codec_backend(const DcaeCodec *codec);

typedef enum {
    DCAE_TILING_AUTO,  /* EXACT; the plan says OFF where one band came out */
    DCAE_TILING_OFF,   /* whole frames */
    DCAE_TILING_EXACT, /* bands: the bits of OFF. On the CPU as few rows at a time as run at full
                          speed, fewer where the limit says so; on CUDA as many as the limit allows
                        */
    DCAE_TILING_BLEND  /* the reference's tiles and results */
} DcaeTilingMode;
typedef enum { DCAE_EDGE_EXTEND, DCAE_EDGE_ZERO, DCAE_EDGE_CROP } DcaeEdgeMode;

typedef struct {
    DcaeTilingMode mode;
    guint tile_width, tile_height; /* blend: pixels, multiples of the ratio; 0 = 512 (rounded up to
                                      a multiple of the ratio) */
    guint stride_width,
        stride_height; /* blend: pixels, multiples of the ratio, at most the tile; 0 = tile minus an
                          eighth, the overlap rounded up to a multiple of the ratio */
    guint64 memory_limit; /* bytes for activations and workspace; 0 = half of what is free on a
                             device, and no limit on the CPU (the caller decides what is free) */
} DcaeTiling;

typedef struct {
    guint width, height; /* picture in pixels. Decode: what is written; at most latent size times
                            ratio; 0 = all */
    guint latent_width, latent_height; /* decode only: the latent's size */
    guint latent_channels; /* 0 = all; fewer only where the model's channel_prefix is TRUE */
    guint batch;           /* frames a call, 1 to 64; 0 = 1 */
    DcaeEdgeMode edge;     /* encode: sizes that are no multiple of the ratio */
    gboolean scale;        /* encode: multiply by scaling_factor; decode: divide by it */
    DcaeTiling tiling;
} DcaeGeometry;

/* What was planned. */
typedef struct {
    DcaeTilingMode tiling; /* OFF, EXACT or BLEND */
    guint width, height;   /* picture that a latent stands for (encode, edge CROP: shrunk) */
    guint latent_channels, latent_width, latent_height;
    guint64 activation_bytes; /* arena and workspace, allocated by dcae_codec_configure() */
    guint64 weight_bytes;     /* packed weights, shared */
    guint bands;              /* EXACT: bands of the finest segment; else 1 */
    guint tiles;              /* BLEND: tiles; else 1 */
    DcaePrecision precision;  /* never AUTO */
    DcaeIsa isa;              /* CPU: instruction set in use; never BEST */
    guint threads;            /* CPU: threads in use */
} DcaePlanInfo;

/* Plans for a frame size and allocates the activations; replaces an earlier plan, which is gone
 * even if this fails. Nothing is allocated before the limit, or without one what the machine and
 * the process's control groups have, is checked. Errors: SETTINGS (naming the nearest legal value,
 * or a memory_limit that does), SHAPE, MEMORY, UNSUPPORTED. */
DCAE_API gboolean dcae_codec_configure(DcaeCodec *codec, const DcaeGeometry *geometry,
                                       GError **error);
/* NULL before a successful dcae_codec_configure(); valid until the next one. */
DCAE_API const DcaePlanInfo *dcae_codec_plan_info(const DcaeCodec *codec);

/* Bytes of the host's memory that can still be taken without swapping: what the system calls
 * available, or what the control groups of the process leave where that is less. 0 where the system
 * doesn't tell. For memory_limit. Thread-safe. */
DCAE_API guint64 dcae_memory_available(void);

/* Runs up to geometry.batch frames.
 *
 * images   n pictures of the configured width × height; read on encode, written in full on decode
 * latents  n latents of plan info's latent_channels × latent_height × latent_width; written in
 *          full on encode, read on decode
 * n        1 to geometry.batch
 *
 * Both are borrowed for the call. On failure the output is unspecified. Errors: SHAPE, NOT_FINITE,
 * CANCELLED, BACKEND. */
DCAE_API gboolean dcae_codec_run(DcaeCodec *codec, const DcaeImage *images,
                                 const DcaeLatent *latents, guint n, GError **error);

/* The same in two steps, so that one run's frames cross the bus while another's are computed.
 * dcae_codec_submit() starts a run and returns a ticket, dcae_codec_wait() waits for the oldest
 * one. At most dcae_codec_depth() runs are under way at once: submitted and not yet waited for.
 * Pictures and latents belong to the codec until dcae_codec_wait() returned for their ticket, also
 * where it failed, or until the next dcae_codec_configure() or dcae_codec_free(), which end all
 * runs; the structs that describe them may go at once. A run that fails leaves the others as they
 * are. Errors: as dcae_codec_run(), which needs that no run is under way; submit also SHAPE where
 * the depth is reached, wait where the ticket is not that of the oldest run. */
DCAE_API guint dcae_codec_depth(const DcaeCodec *codec); /* CPU: 1; CUDA: 3 */
DCAE_API gboolean dcae_codec_submit(DcaeCodec *codec, const DcaeImage *images,
                                    const DcaeLatent *latents, guint n, guint64 *ticket,
                                    GError **error);
DCAE_API gboolean dcae_codec_wait(DcaeCodec *codec, guint64 ticket, GError **error);

/* Milliseconds that the ops of the run that ended last took for all its frames, one per op of the
 * plan's program; for benchmarks. label and kind stay valid until the next configure. */
typedef struct {
    const char *label; /* weight name of the layer, or the kind for ops without weights */
    const char *kind;
    double ms;
    double flop; /* 2 × multiply-adds of the definition, for one frame */
} DcaeOpTiming;
/* Returns an array owned by the codec, or NULL where params.timings was not set, where there was no
 * run since dcae_codec_configure(), or the last one failed. *n is set only with the array. */
DCAE_API const DcaeOpTiming *dcae_codec_timings(DcaeCodec *codec, guint *n);

G_END_DECLS
#endif

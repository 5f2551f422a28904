/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaecuda.c - see gstdcaecuda.h. The only file that includes
 * gstreamer-cuda-1.0; knows no elements, no caps fields and no codec.
 */
#include "gstdcaecuda.h"

#ifdef HAVE_GST_CUDA
#include <gst/cuda/gstcudabufferpool.h>
#include <gst/cuda/gstcudacontext.h>
#include <gst/cuda/gstcudaloader.h>
#include <gst/cuda/gstcudamemory.h>
#include <gst/cuda/gstcudautils.h>
#endif

/* ---- caps */

GstCaps *
gst_dcae_cuda_append_caps (GstCaps * caps, const gchar * cuda)
{
#ifdef HAVE_GST_CUDA
  caps = gst_caps_make_writable (caps);
  gst_caps_append (caps, gst_caps_from_string (cuda));
#endif
  return caps;
}

static gboolean
is_cuda (const GstCapsFeatures * features)
{
  return features && !gst_caps_features_is_any (features) &&
      gst_caps_features_contains (features, GST_DCAE_CUDA_MEMORY);
}

gboolean
gst_dcae_cuda_has_feature (const GstCaps * caps)
{
  return caps && !gst_caps_is_any (caps) && !gst_caps_is_empty (caps) &&
      is_cuda (gst_caps_get_features (caps, 0));
}

static gboolean
keep_memory (GstCapsFeatures * features, GstStructure * structure,
    gpointer cuda)
{
  return is_cuda (features) == *(const gboolean *) cuda;
}

GstCaps *
gst_dcae_cuda_filter_caps (GstCaps * caps, gboolean cuda)
{
  if (gst_caps_is_any (caps) || gst_caps_is_empty (caps))
    return caps;
  caps = gst_caps_make_writable (caps);
  gst_caps_filter_and_map_in_place (caps, keep_memory, &cuda);
  return caps;
}

GstCaps *
gst_dcae_cuda_prefer (GstCaps * caps)
{
  GstCaps *first;

  if (gst_caps_is_any (caps) || gst_caps_is_empty (caps))
    return caps;
  first = gst_dcae_cuda_filter_caps (gst_caps_copy (caps), TRUE);
  gst_caps_append (first, gst_dcae_cuda_filter_caps (caps, FALSE));
  return first;
}

gboolean
gst_dcae_cuda_pad_has_feature (GstPad * pad)
{
  GstCaps *caps = gst_pad_get_current_caps (pad);
  gboolean found = gst_dcae_cuda_has_feature (caps);

  gst_clear_caps (&caps);
  return found;
}

gboolean
gst_dcae_cuda_peer_has_feature (GstPad * pad)
{
  GstCaps *caps = gst_pad_peer_query_caps (pad, NULL);
  gboolean found = FALSE;

  for (guint i = 0; !gst_caps_is_any (caps) && i < gst_caps_get_size (caps);
      i++)
    found |= is_cuda (gst_caps_get_features (caps, i));
  gst_caps_unref (caps);
  return found;
}

#ifdef HAVE_GST_CUDA
/* ---- context */

/* gstreamer-cuda 1.22 waits for ever when it is asked a second time where there
 * is no device. */
static gboolean
has_device (void)
{
  int n = 0;

  return gst_cuda_load_library () && CuInit (0) == CUDA_SUCCESS &&
      CuDeviceGetCount (&n) == CUDA_SUCCESS && n > 0;
}

gboolean
gst_dcae_cuda_ensure_context (GstElement * element, gint device,
    GstObject ** context)
{
  if (!has_device ())
    return FALSE;
  gst_cuda_memory_init_once ();
  return gst_cuda_ensure_element_context (element, device,
      (GstCudaContext **) context);
}

void
gst_dcae_cuda_set_context (GstElement * element, GstContext * context,
    gint device, GstObject ** to)
{
  gst_cuda_handle_set_context (element, context, device,
      (GstCudaContext **) to);
}

gboolean
gst_dcae_cuda_handle_query (GstElement * element, GstQuery * query,
    GstObject * context)
{
  return gst_cuda_handle_context_query (element, query,
      (GstCudaContext *) context);
}

gpointer
gst_dcae_cuda_get_handle (GstObject * context)
{
  return context ? gst_cuda_context_get_handle (GST_CUDA_CONTEXT (context)) :
      NULL;
}

/* ---- buffers */

static GstCudaMemory *
peek_memory (GstBuffer * buffer)
{
  GstMemory *memory;

  if (gst_buffer_n_memory (buffer) != 1)
    return NULL;
  memory = gst_buffer_peek_memory (buffer, 0);
  return gst_is_cuda_memory (memory) ? GST_CUDA_MEMORY_CAST (memory) : NULL;
}

GstMapFlags
gst_dcae_cuda_map_flags (GstObject * context, GstBuffer * buffer)
{
  GstCudaMemory *memory = context ? peek_memory (buffer) : NULL;

  if (!memory || gst_cuda_context_get_handle (memory->context) !=
      gst_dcae_cuda_get_handle (context))
    return 0;
  return (GstMapFlags) GST_MAP_CUDA;
}

/* Before 1.24 whoever makes a buffer waits for its stream before passing it
 * on; since then memory may carry its stream. */
void
gst_dcae_cuda_sync (GstBuffer * buffer)
{
#if GST_CHECK_VERSION (1, 24, 0)
  GstCudaMemory *memory = peek_memory (buffer);

  if (memory)
    gst_cuda_memory_sync (memory);
#endif
}

/* ---- pools */

GstBufferPool *
gst_dcae_cuda_pool_new (GstObject * context, GstCaps * caps, guint * size)
{
  GstBufferPool *pool = gst_cuda_buffer_pool_new (GST_CUDA_CONTEXT (context));
  GstStructure *config = gst_buffer_pool_get_config (pool);
  GstVideoInfo info;

  if (!gst_video_info_from_caps (&info, caps)) {
    gst_structure_free (config);
    gst_object_unref (pool);
    return NULL;
  }
  gst_buffer_pool_config_set_params (config, caps,
      GST_VIDEO_INFO_SIZE (&info), 0, 0);
  gst_buffer_pool_config_add_option (config, GST_BUFFER_POOL_OPTION_VIDEO_META);
  if (!gst_buffer_pool_set_config (pool, config)) {
    gst_object_unref (pool);
    return NULL;
  }

  /* The pool puts in what its pitch makes of the size. */
  config = gst_buffer_pool_get_config (pool);
  gst_buffer_pool_config_get_params (config, NULL, size, NULL, NULL);
  gst_structure_free (config);
  return pool;
}

/* GStreamer allocates device memory as pictures only: a latent is one row of
 * as many bytes. */
typedef struct
{
  GstBufferPool parent;

  GstCudaContext *context;
  GstAllocator *allocator;
  gsize size;
} GstDcaeCudaPool;

typedef GstBufferPoolClass GstDcaeCudaPoolClass;

static GType gst_dcae_cuda_pool_get_type (void);
G_DEFINE_TYPE (GstDcaeCudaPool, gst_dcae_cuda_pool, GST_TYPE_BUFFER_POOL);

static GstFlowReturn
gst_dcae_cuda_pool_alloc (GstBufferPool * pool, GstBuffer ** buffer,
    GstBufferPoolAcquireParams * params)
{
  GstDcaeCudaPool *self = (GstDcaeCudaPool *) pool;
  GstVideoInfo info;
  GstMemory *memory;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_RGBA,
      (self->size + 3) / 4, 1);
  info.stride[0] = self->size;
#if GST_CHECK_VERSION (1, 24, 0)
  memory = gst_cuda_allocator_alloc (GST_CUDA_ALLOCATOR (self->allocator),
      self->context, NULL, &info);
#else
  memory = gst_cuda_allocator_alloc (GST_CUDA_ALLOCATOR (self->allocator),
      self->context, &info);
#endif
  if (!memory)
    return GST_FLOW_ERROR;

  gst_memory_resize (memory, 0, self->size);
  *buffer = gst_buffer_new ();
  gst_buffer_append_memory (*buffer, memory);
  return GST_FLOW_OK;
}

static void
gst_dcae_cuda_pool_finalize (GObject * object)
{
  GstDcaeCudaPool *self = (GstDcaeCudaPool *) object;

  gst_clear_object (&self->context);
  gst_clear_object (&self->allocator);
  G_OBJECT_CLASS (gst_dcae_cuda_pool_parent_class)->finalize (object);
}

static void
gst_dcae_cuda_pool_class_init (GstDcaeCudaPoolClass * klass)
{
  G_OBJECT_CLASS (klass)->finalize = gst_dcae_cuda_pool_finalize;
  klass->alloc_buffer = gst_dcae_cuda_pool_alloc;
}

static void
gst_dcae_cuda_pool_init (GstDcaeCudaPool * self)
{
}

GstBufferPool *
gst_dcae_cuda_latent_pool_new (GstObject * context, gsize size)
{
  GstDcaeCudaPool *self;
  GstBufferPool *pool;
  GstStructure *config;

  if (size > G_MAXINT)
    return NULL;
  self = g_object_new (gst_dcae_cuda_pool_get_type (), NULL);
  gst_object_ref_sink (self);
  self->context = GST_CUDA_CONTEXT (gst_object_ref (context));
  self->allocator = gst_allocator_find (GST_CUDA_MEMORY_TYPE_NAME);
  self->size = size;

  pool = GST_BUFFER_POOL (self);
  config = gst_buffer_pool_get_config (pool);
  gst_buffer_pool_config_set_params (config, NULL, size, 0, 0);
  if (!self->allocator || !gst_buffer_pool_set_config (pool, config) ||
      !gst_buffer_pool_set_active (pool, TRUE)) {
    gst_object_unref (pool);
    return NULL;
  }
  return pool;
}

#else
/* ---- a build without gstreamer-cuda-1.0 */

gboolean
gst_dcae_cuda_ensure_context (GstElement * element, gint device,
    GstObject ** context)
{
  return FALSE;
}

void
gst_dcae_cuda_set_context (GstElement * element, GstContext * context,
    gint device, GstObject ** to)
{
}

gboolean
gst_dcae_cuda_handle_query (GstElement * element, GstQuery * query,
    GstObject * context)
{
  return FALSE;
}

gpointer
gst_dcae_cuda_get_handle (GstObject * context)
{
  return NULL;
}

GstMapFlags
gst_dcae_cuda_map_flags (GstObject * context, GstBuffer * buffer)
{
  return 0;
}

void
gst_dcae_cuda_sync (GstBuffer * buffer)
{
}

GstBufferPool *
gst_dcae_cuda_pool_new (GstObject * context, GstCaps * caps, guint * size)
{
  return NULL;
}

GstBufferPool *
gst_dcae_cuda_latent_pool_new (GstObject * context, gsize size)
{
  return NULL;
}
#endif

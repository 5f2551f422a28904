/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaecuda.h - memory:CUDAMemory: the context that an element shares with
 * its neighbours, buffers and pools in device memory. A build without
 * gstreamer-cuda-1.0 has the same functions, which then find no context and no
 * device memory. Contexts are GstCudaContext, passed as GstObject.
 */
#ifndef __GST_DCAE_CUDA_H__
#define __GST_DCAE_CUDA_H__

#include <gst/gst.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

/* The caps feature. */
#define GST_DCAE_CUDA_MEMORY "memory:CUDAMemory"

/* End of a sentence about device memory that frames found none of. */
#define GST_DCAE_CUDA_ADVICE ": lower batch-size, memory-limit or the number " \
    "of frames in queues, which all leave more of it"

/* Appends to caps (taken) what a pad takes in device memory; cuda is the text
 * of those caps. Returns caps as they are in a build without. */
GstCaps *gst_dcae_cuda_append_caps (GstCaps * caps, const gchar * cuda);
/* TRUE where the first structure has the feature. */
gboolean gst_dcae_cuda_has_feature (const GstCaps * caps);
/* Leaves in caps (taken) the structures with the feature, or those without;
 * both for a pad that no memory is asked of. */
GstCaps *gst_dcae_cuda_filter_caps (GstCaps * caps, gboolean cuda);
/* Moves the structures of caps (taken) with the feature to the front: preferred
 * over the others, in whatever order a peer named them. */
GstCaps *gst_dcae_cuda_prefer (GstCaps * caps);
/* TRUE where the caps of pad have the feature. */
gboolean gst_dcae_cuda_pad_has_feature (GstPad * pad);
/* TRUE where the peer of pad names the feature; "anything" doesn't name it. */
gboolean gst_dcae_cuda_peer_has_feature (GstPad * pad);

/* Finds a context among the neighbours, in the bin or from the application, or
 * creates one, as GStreamer's own CUDA elements do. device: -1 any. FALSE, and
 * *context stays NULL, where there is no driver or no such device. May call
 * set_context() of element. */
gboolean gst_dcae_cuda_ensure_context (GstElement * element, gint device,
    GstObject ** context);
/* For GstElementClass.set_context(). Call with the object lock. */
void gst_dcae_cuda_set_context (GstElement * element, GstContext * context,
    gint device, GstObject ** to);
/* Answers a CONTEXT query; FALSE where it is about something else. context may
 * be NULL. */
gboolean gst_dcae_cuda_handle_query (GstElement * element, GstQuery * query,
    GstObject * context);
/* The CUcontext; NULL for NULL. */
gpointer gst_dcae_cuda_get_handle (GstObject * context);

/* Flags to add when mapping, so that data is an address of the device; none
 * where the buffer's memory is not one piece of this context's. context may be
 * NULL. */
GstMapFlags gst_dcae_cuda_map_flags (GstObject * context, GstBuffer * buffer);
/* Waits for work that others queued on the buffer's memory. */
void gst_dcae_cuda_sync (GstBuffer * buffer);

/* A configured pool of pictures in device memory; *size becomes the bytes of
 * one of its buffers. It allocates none ahead, since a pool that fails half way
 * through that keeps what it has. NULL: no memory. */
GstBufferPool *gst_dcae_cuda_pool_new (GstObject * context, GstCaps * caps,
    guint * size);
/* An active pool of packed buffers of so many bytes. NULL: no memory. */
GstBufferPool *gst_dcae_cuda_latent_pool_new (GstObject * context, gsize size);

G_END_DECLS
#endif /* __GST_DCAE_CUDA_H__ */

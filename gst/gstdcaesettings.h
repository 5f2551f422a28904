/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaesettings.h - the properties that dcaeenc and dcaedec share: their
 * values, their types, installing, setting and getting them. Takes no locks.
 */
#ifndef __GST_DCAE_SETTINGS_H__
#define __GST_DCAE_SETTINGS_H__

#include <dcae.h>
#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_DCAE_MAX_BATCH 64

/* Identifiers of these properties end before this. */
#define GST_DCAE_PROP_STATUS 50

#define GST_TYPE_DCAE_BACKEND (gst_dcae_backend_get_type ())
GType gst_dcae_backend_get_type (void);
#define GST_TYPE_DCAE_PRECISION (gst_dcae_precision_get_type ())
GType gst_dcae_precision_get_type (void);
#define GST_TYPE_DCAE_TILING (gst_dcae_tiling_get_type ())
GType gst_dcae_tiling_get_type (void);

/* Values of the shared properties. Strings are owned; "" is kept as NULL. */
typedef struct
{
  gchar *model, *variant, *config;
  DcaeBackendKind backend;
  gint device;                  /* -1: any */
  DcaePrecision precision;
  guint threads;                /* 0: all */
  DcaeTilingMode tiling;
  guint tile_width, tile_height;        /* pixels */
  guint tile_stride_width, tile_stride_height;  /* pixels; 0: seven eighths */
  guint64 memory_limit;         /* MiB; 0: half of what is free */
  guint batch_size;
  gboolean slicing;
  gboolean scale_latents;
  guint latent_channels;        /* 0: all */
} GstDcaeSettings;

/* Installs the properties and their types. */
void gst_dcae_settings_install (GObjectClass * klass);

/* Sets all to the defaults; frees nothing. */
void gst_dcae_settings_init (GstDcaeSettings * self);
/* Frees the strings and sets all to 0. */
void gst_dcae_settings_clear (GstDcaeSettings * self);
/* Clears dest first. */
void gst_dcae_settings_copy (GstDcaeSettings * dest,
    const GstDcaeSettings * src);

/* TRUE where the property is one of these. */
gboolean gst_dcae_settings_set (GstDcaeSettings * self, guint prop_id,
    const GValue * value);
gboolean gst_dcae_settings_get (const GstDcaeSettings * self, guint prop_id,
    GValue * value);

/* A tile side as the library takes it: 0, which stands for 512 rounded to what
 * the model allows, where the property was left alone. */
guint gst_dcae_settings_tile (guint tile);
/* TRUE where any tile property was changed. */
gboolean gst_dcae_settings_has_tiles (const GstDcaeSettings * self);

/* The value of the tiling property as users write it. Static. */
const gchar *gst_dcae_tiling_to_string (DcaeTilingMode mode);

G_END_DECLS
#endif /* __GST_DCAE_SETTINGS_H__ */

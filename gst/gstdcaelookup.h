/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaelookup.h - which model an element uses, and where that is.
 */
#ifndef __GST_DCAE_LOOKUP_H__
#define __GST_DCAE_LOOKUP_H__

#include "gstdcaesettings.h"

G_BEGIN_DECLS

/* What a latent stream says about its model. Strings are borrowed. */
typedef struct
{
  const gchar *name;            /* NULL: not named */
  const gchar *hash;            /* NULL: not given */
  guint channels;
  guint ratio;                  /* 0: not given */
} GstDcaeModelRequest;

typedef struct
{
  GstElement *element;          /* for the log */
  const GstDcaeSettings *settings;      /* model, variant, config */
  const GstDcaeModelRequest *request;   /* NULL: nothing is known */
} GstDcaeLookup;

/* Opens the model property, or where it is unset the model that request
 * describes, or without a request the demonstration model. A repository is
 * looked up in the local Hugging Face cache, a name below the directories of
 * GST_DCAE_MODELS_PATH and where models are installed. Returns NULL with an
 * error of the library, DCAE_ERROR_NOT_FOUND where there is no such model. For
 * any thread; all is borrowed for the call. */
DcaeModel *gst_dcae_lookup_model (const GstDcaeLookup * self, GError ** error);

G_END_DECLS
#endif /* __GST_DCAE_LOOKUP_H__ */

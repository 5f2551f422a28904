/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * clip_common.h - what the tests of clip files share: frames, files, a sink in
 * memory that behaves like filesink, and a player that collects frames.
 */
#ifndef CLIP_COMMON_H
#define CLIP_COMMON_H

#include <dcae.h>
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/gst.h>

/* Frames of the tests: [2, 3, 4] halves, 48 bytes. */
#define FRAME_SIZE ((gsize)48)
#define CAPS_FIELDS \
    "video/x-dcae-latent,format=F16LE,latent-channels=2,latent-width=4,latent-height=3"
#define CAPS_FULL                                                                              \
    CAPS_FIELDS ",width=125,height=90,spatial-ratio=32,framerate=25/1,pixel-aspect-ratio=4/3," \
                "colorimetry=(string)1:1:7:1,model=\"owner/some model\","                      \
                "model-hash=(string)0123456789abcdef,scaled=true,scaling-factor=0.41407"
#define FRAME_TIME (GST_SECOND / 25)

/* A folder of the test program's own; removed at exit. */
const gchar *test_dir(void);
/* dir/name; the caller frees. */
gchar *test_path(const gchar *name);

/* Frame i of a test clip: every byte follows from i. */
GstBuffer *make_frame(guint i, GstClockTime pts, GstClockTime duration);
void assert_frame(GstBuffer *buffer, guint i, gsize size);

/* A safetensors file of this JSON, padded to pad bytes of JSON if that is more,
 * and data_size bytes of data: frames, counted on from frame 0. */
GBytes *make_file(const gchar *json, gsize pad, gsize data_size);
void write_bytes(const gchar *path, GBytes *bytes, gsize size);

/* A clip, read independently of the product's reader. */
typedef struct {
    GBytes *bytes;
    DcaeSafetensorsHeader *header;
    const guint8 *data; /* after the header */
    gsize header_size;
    guint64 n_frames;
    const gint64 *pts, *duration; /* copies, or NULL */
} Clip;

/* Asserts that this is a whole safetensors file, without trailing bytes. */
void clip_read(Clip *clip, GBytes *bytes);
/* The same for a file that may have bytes after its last tensor. */
void clip_read_unfinished(Clip *clip, GBytes *bytes);
void clip_clear(Clip *clip);

/* dcaemux between a harness and a sink in memory. */
typedef struct {
    GstHarness *h;
    GstBus *bus;
    GByteArray *file;
    gsize position;
    gboolean seekable;
    gsize room; /* bytes after which the disk is full */
    guint eos;
    guint headers; /* byte segments at 0 */
} Mux;

/* seekable: whether the sink can seek. caps NULL: none are sent. */
void mux_init(Mux *mux, const gchar *launch, gboolean seekable, const gchar *caps);
void mux_clear(Mux *mux);
void mux_caps(Mux *mux, const gchar *caps);
GstFlowReturn mux_push(Mux *mux, guint frame);
/* Pushes frames 0 to n - 1 and asserts that all are taken. */
void mux_push_many(Mux *mux, guint n);
GBytes *mux_bytes(Mux *mux);
/* A whole clip of n frames. */
GBytes *make_clip(const gchar *launch, const gchar *caps, guint n);

/* Text and details of an error or a warning; the caller frees. */
gchar *message_text(GstMessage *message);
/* Takes the first message of this type off the bus and asserts that message or
 * details contain text. */
void assert_message(GstBus *bus, GstMessageType type, const gchar *text);
void assert_no_message(GstBus *bus, GstMessageType type);

typedef enum {
    PLAY_PULL,
    PLAY_PUSH,      /* upstream can seek */
    PLAY_PUSH_ONLY, /* upstream can't */
} PlayMode;

/* A pipeline that plays a file into an appsink. */
typedef struct {
    GstElement *pipeline, *sink, *demux;
    GstBus *bus;
    GstMessage *last;    /* ERROR, EOS, SEGMENT_DONE */
    GstMessage *warning; /* the first */
} Player;

void player_init(Player *player, PlayMode mode, const gchar *path, const gchar *properties);
void player_clear(Player *player);
/* To PAUSED; FALSE where that failed, then last is the error. */
gboolean player_preroll(Player *player);
/* The next frame, playing; NULL at the end. The caller unrefs. */
GstSample *player_pull(Player *player);
/* Starts playing, takes all frames and waits for the end; returns how many. */
guint player_run(Player *player);
/* NULL: there was none. */
void player_assert_warning(Player *player, const gchar *text);
void player_assert_error(Player *player, const gchar *text);

#endif

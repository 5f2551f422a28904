/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_clipmux.c - what dcaemux promises: files that any reader of safetensors
 * takes, also in the middle of writing, and an error by name for what can't be
 * a clip.
 */
#include "clip_common.h"

#include <string.h>

static const gchar *metadata(const Clip *clip, const gchar *key)
{
    return dcae_safetensors_header_metadata(clip->header, key);
}

/* ---- files ---- */

GST_START_TEST(test_whole_file)
{
    Clip clip;
    clip_read(&clip, make_clip("dcaemux", CAPS_FULL, 5));
    fail_unless_equals_uint64(clip.n_frames, 5);
    fail_unless_equals_uint64(clip.header_size, 65536);
    const DcaeTensor *latents = dcae_safetensors_header_find(clip.header, "latents");
    fail_unless_equals_int(latents->dtype, DCAE_DTYPE_F16);
    fail_unless_equals_uint64(latents->shape[1], 2);
    fail_unless_equals_uint64(latents->shape[2], 3);
    fail_unless_equals_uint64(latents->shape[3], 4);
    for (guint i = 0; i < 5; i++) {
        GstBuffer *buffer = gst_buffer_new_memdup(clip.data + i * FRAME_SIZE, FRAME_SIZE);
        assert_frame(buffer, i, FRAME_SIZE);
        gst_buffer_unref(buffer);
        fail_unless_equals_int64(clip.pts[i], i * FRAME_TIME);
        fail_unless_equals_int64(clip.duration[i], FRAME_TIME);
    }
    clip_clear(&clip);
}
GST_END_TEST;

GST_START_TEST(test_metadata_are_the_caps)
{
    static const gchar *const wanted[][2] = {
        {"format", "pt"},
        {"dcae.version", "1"},
        {"dcae.complete", "true"},
        {"dcae.first-pts", "0"},
        {"dcae.format", "F16LE"},
        {"dcae.latent-channels", "2"},
        {"dcae.latent-width", "4"},
        {"dcae.latent-height", "3"},
        {"dcae.width", "125"},
        {"dcae.height", "90"},
        {"dcae.spatial-ratio", "32"},
        {"dcae.framerate", "25/1"},
        {"dcae.pixel-aspect-ratio", "4/3"},
        {"dcae.colorimetry", "1:1:7:1"},
        {"dcae.model", "\"owner/some\\ model\""},
        {"dcae.model-hash", "0123456789abcdef"},
        {"dcae.scaled", "true"},
    };
    Clip clip;
    clip_read(&clip, make_clip("dcaemux", CAPS_FULL, 1));
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++)
        fail_unless_equals_string(metadata(&clip, wanted[i][0]), wanted[i][1]);
    /* The text is the shortest of this double, the value is exact. */
    fail_unless(g_ascii_strtod(metadata(&clip, "dcae.scaling-factor"), NULL) == 0.41407);
    fail_unless(metadata(&clip, "dcae.max-framerate") == NULL);
    fail_unless(metadata(&clip, "dcae.tags") == NULL);
    clip_clear(&clip);
}
GST_END_TEST;

GST_START_TEST(test_formats)
{
    static const struct {
        const gchar *caps;
        DcaeDtype dtype;
        gsize size;
    } cases[] = {
        {"F32LE", DCAE_DTYPE_F32, 4}, {"F16LE", DCAE_DTYPE_F16, 2}, {"BF16LE", DCAE_DTYPE_BF16, 2}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        /* Odd sizes, so that the tables are not aligned in the file. */
        gchar *caps = g_strdup_printf("video/x-dcae-latent,format=%s,latent-channels=3,"
                                      "latent-width=5,latent-height=7",
                                      cases[i].caps);
        gsize size = 3 * 5 * 7 * cases[i].size;
        Clip clip;
        Mux mux;
        mux_init(&mux, "dcaemux", TRUE, caps);
        for (guint k = 0; k < 3; k++)
            fail_unless_equals_int(
                gst_harness_push(mux.h, gst_buffer_new_memdup(g_malloc0(size), size)), GST_FLOW_OK);
        gst_harness_push_event(mux.h, gst_event_new_eos());
        clip_read(&clip, mux_bytes(&mux));
        const DcaeTensor *latents = dcae_safetensors_header_find(clip.header, "latents");
        fail_unless_equals_int(latents->dtype, cases[i].dtype);
        fail_unless_equals_uint64(latents->end, 3 * size);
        clip_clear(&clip);
        mux_clear(&mux);
        g_free(caps);
    }
}
GST_END_TEST;

GST_START_TEST(test_no_frames)
{
    Clip clip;
    clip_read(&clip, make_clip("dcaemux", CAPS_FULL, 0));
    fail_unless_equals_uint64(clip.n_frames, 0);
    clip_clear(&clip);
}
GST_END_TEST;

GST_START_TEST(test_no_caps_is_no_clip)
{
    Mux mux;
    mux_init(&mux, "dcaemux", TRUE, NULL);
    gst_harness_push_event(mux.h, gst_event_new_stream_start("s"));
    fail_unless(gst_harness_push_event(mux.h, gst_event_new_eos()));
    assert_message(mux.bus, GST_MESSAGE_WARNING, "No clip was written");
    fail_unless_equals_int(mux.file->len, 0);
    fail_unless_equals_int(mux.eos, 1);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_header_size)
{
    Clip clip;
    clip_read(&clip, make_clip("dcaemux header-size=4001", CAPS_FULL, 2));
    fail_unless_equals_uint64(clip.header_size, 4008);
    clip_clear(&clip);
    /* Too little for the caps: more is taken. */
    clip_read(&clip, make_clip("dcaemux header-size=64", CAPS_FULL, 200));
    fail_unless(clip.header_size > 64 && clip.header_size < 4096);
    fail_unless_equals_uint64(clip.n_frames, 200);
    clip_clear(&clip);
}
GST_END_TEST;

/* ---- times ---- */

GST_START_TEST(test_running_time)
{
    Mux mux;
    Clip clip;
    GstSegment segment;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.start = 10 * GST_SECOND;
    segment.stop = 11 * GST_SECOND;
    segment.base = GST_SECOND;
    gst_harness_push_event(mux.h, gst_event_new_segment(&segment));
    static const struct {
        GstClockTime pts, duration;
    } frames[] = {
        {8 * GST_SECOND, GST_SECOND},     /* outside */
        {9 * GST_SECOND, 2 * GST_SECOND}, /* cut to 10 .. 11 */
        {10 * GST_SECOND + 5, 7},
        {GST_CLOCK_TIME_NONE, 3},
        {10 * GST_SECOND + 20, GST_CLOCK_TIME_NONE},
        {11 * GST_SECOND + 1, 7}, /* outside */
    };
    for (guint i = 0; i < G_N_ELEMENTS(frames); i++)
        fail_unless_equals_int(
            gst_harness_push(mux.h, make_frame(i, frames[i].pts, frames[i].duration)), GST_FLOW_OK);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    clip_read(&clip, mux_bytes(&mux));
    static const gint64 pts[] = {GST_SECOND, GST_SECOND + 5, -1, GST_SECOND + 20};
    static const gint64 duration[] = {GST_SECOND, 7, 3, -1};
    fail_unless_equals_uint64(clip.n_frames, 4);
    for (guint i = 0; i < 4; i++) {
        fail_unless_equals_int64(clip.pts[i], pts[i]);
        fail_unless_equals_int64(clip.duration[i], duration[i]);
    }
    fail_unless_equals_string(metadata(&clip, "dcae.first-pts"), "1000000000");
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_decreasing_pts)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    mux_push_many(&mux, 3);
    /* Equal is allowed. */
    fail_unless_equals_int(gst_harness_push(mux.h, make_frame(3, 2 * FRAME_TIME, FRAME_TIME)),
                           GST_FLOW_OK);
    fail_unless_equals_int(gst_harness_push(mux.h, make_frame(4, 2 * FRAME_TIME - 1, FRAME_TIME)),
                           GST_FLOW_ERROR);
    assert_message(mux.bus, GST_MESSAGE_ERROR, "decrease at frame 4");
    fail_unless_equals_int(mux_push(&mux, 5), GST_FLOW_ERROR);
    /* What came before is a whole clip. */
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 4);
    clip_clear(&clip);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR);
    fail_unless_equals_int(mux.eos, 0);
    mux_clear(&mux);
}
GST_END_TEST;

/* ---- the header while writing ---- */

GST_START_TEST(test_first_header_is_valid)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux refresh-interval=0", TRUE, CAPS_FULL);
    mux_push_many(&mux, 3);
    clip_read_unfinished(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 0);
    fail_unless_equals_string(metadata(&clip, "dcae.complete"), "false");
    fail_unless_equals_int(mux.headers, 1);
    clip_clear(&clip);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    fail_unless_equals_int(mux.headers, 2);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 3);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_refresh)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux refresh-interval=1", TRUE, CAPS_FULL);
    for (guint i = 0; i < 4; i++) {
        fail_unless_equals_int(
            gst_harness_push(mux.h, make_frame(i, 77 + i * FRAME_TIME, FRAME_TIME)), GST_FLOW_OK);
        clip_read_unfinished(&clip, mux_bytes(&mux));
        fail_unless_equals_uint64(clip.n_frames, i + 1);
        fail_unless_equals_string(metadata(&clip, "dcae.complete"), "false");
        fail_unless_equals_string(metadata(&clip, "dcae.first-pts"), "77");
        fail_unless_equals_string(metadata(&clip, "dcae.framerate"), "25/1");
        fail_unless_equals_uint64(g_bytes_get_size(clip.bytes),
                                  clip.header_size + (i + 1) * FRAME_SIZE);
        clip_clear(&clip);
    }
    gst_harness_push_event(mux.h, gst_event_new_eos());
    clip_read(&clip, mux_bytes(&mux));
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_disk_full)
{
    /* Full in a frame, in the tables, and in the header itself. */
    const gsize rooms[] = {65536 + 3 * FRAME_SIZE + 5, 65536 + 5 * FRAME_SIZE + 9, 1000};
    const guint64 frames[] = {3, 5, 0};
    for (guint k = 0; k < G_N_ELEMENTS(rooms); k++) {
        Mux mux;
        Clip clip;
        GstFlowReturn ret = GST_FLOW_OK;
        /* The count is right before the tables follow, without a refresh in between too. */
        mux_init(&mux, k == 1 ? "dcaemux" : "dcaemux refresh-interval=1", TRUE, CAPS_FULL);
        mux.room = rooms[k];
        for (guint i = 0; i < 5 && ret == GST_FLOW_OK; i++)
            ret = mux_push(&mux, i);
        fail_unless_equals_int(ret, k == 1 ? GST_FLOW_OK : GST_FLOW_ERROR);
        gst_harness_push_event(mux.h, gst_event_new_eos());
        /* The sink has said what is wrong; the file is not called whole. */
        fail_unless_equals_int(mux.eos, 0);
        if (frames[k] > 0) {
            clip_read_unfinished(&clip, mux_bytes(&mux));
            fail_unless_equals_uint64(clip.n_frames, frames[k]);
            fail_unless_equals_string(metadata(&clip, "dcae.complete"), "false");
            clip_clear(&clip);
        }
        mux_clear(&mux);
    }
}
GST_END_TEST;

/* ---- sinks that can't seek ---- */

GST_START_TEST(test_not_seekable)
{
    Mux mux;
    mux_init(&mux, "dcaemux", FALSE, CAPS_FIELDS);
    fail_unless_equals_int(mux_push(&mux, 0), GST_FLOW_ERROR);
    assert_message(mux.bus, GST_MESSAGE_ERROR, "set num-frames, or buffer-in-memory");
    fail_unless_equals_int(mux_push(&mux, 1), GST_FLOW_ERROR);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR);
    fail_unless_equals_int(mux.file->len, 0);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_buffer_in_memory)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux buffer-in-memory=true", FALSE, CAPS_FULL);
    mux_push_many(&mux, 4);
    fail_unless_equals_int(mux.file->len, 0);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 4);
    fail_unless_equals_int64(clip.pts[3], 3 * FRAME_TIME);
    fail_unless(memcmp(clip.data + 3 * FRAME_SIZE, (guint8[]){3 * 37 + 5, 3 * 37 + 16}, 2) == 0);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_num_frames)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux num-frames=3", FALSE, CAPS_FULL);
    mux_push_many(&mux, 3);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    fail_unless_equals_int(mux.eos, 1);
    fail_unless_equals_int(mux.headers, 1);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 3);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_num_frames_mismatch)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux num-frames=3", FALSE, CAPS_FULL);
    mux_push_many(&mux, 2);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_message(mux.bus, GST_MESSAGE_ERROR, "2 frames came, num-frames promised 3");
    fail_unless_equals_int(mux.eos, 0);
    mux_clear(&mux);

    mux_init(&mux, "dcaemux num-frames=3", FALSE, CAPS_FULL);
    mux_push_many(&mux, 3);
    fail_unless_equals_int(mux_push(&mux, 3), GST_FLOW_ERROR);
    assert_message(mux.bus, GST_MESSAGE_ERROR, "More frames came than the 3 that num-frames");
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 3);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

/* ---- caps ---- */

GST_START_TEST(test_caps_change)
{
    static const struct {
        const gchar *caps, *field;
    } cases[] = {
        {"video/x-dcae-latent,format=F32LE,latent-channels=2,latent-width=4,latent-height=3",
         "format"},
        {"video/x-dcae-latent,format=F16LE,latent-channels=3,latent-width=4,latent-height=3",
         "latent-channels"},
        {"video/x-dcae-latent,format=F16LE,latent-channels=2,latent-width=5,latent-height=3",
         "latent-width"},
        {"video/x-dcae-latent,format=F16LE,latent-channels=2,latent-width=4,latent-height=4",
         "latent-height"},
        {CAPS_FIELDS ",width=128,height=96", "width"},
        {CAPS_FIELDS ",spatial-ratio=32", "spatial-ratio"},
        {CAPS_FIELDS ",pixel-aspect-ratio=1/1", "pixel-aspect-ratio"},
        {CAPS_FIELDS ",colorimetry=(string)1:1:5:1", "colorimetry"},
        {CAPS_FIELDS ",model=other", "model"},
        {CAPS_FIELDS ",model-hash=(string)0123456789abcdef", "model-hash"},
        {CAPS_FIELDS ",scaled=false", "scaled"},
        {CAPS_FIELDS ",scaling-factor=1.0", "scaling-factor"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Mux mux;
        Clip clip;
        gchar *text = g_strdup_printf("changed its %s,", cases[i].field);
        mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
        mux_push_many(&mux, 2);
        mux_caps(&mux, cases[i].caps);
        assert_message(mux.bus, GST_MESSAGE_ERROR, text);
        fail_unless_equals_int(mux_push(&mux, 2), GST_FLOW_ERROR);
        clip_read(&clip, mux_bytes(&mux));
        fail_unless_equals_uint64(clip.n_frames, 2);
        fail_unless_equals_int(mux.eos, 1);
        clip_clear(&clip);
        mux_clear(&mux);
        g_free(text);
    }
}
GST_END_TEST;

GST_START_TEST(test_framerate_change)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS ",framerate=25/1");
    mux_push_many(&mux, 2);
    mux_caps(&mux, CAPS_FIELDS ",framerate=50/1,max-framerate=60/1");
    fail_unless_equals_int(mux_push(&mux, 2), GST_FLOW_OK);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 3);
    fail_unless_equals_string(metadata(&clip, "dcae.framerate"), "50/1");
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_bad_caps)
{
    static const struct {
        const gchar *caps, *text;
    } cases[] = {
        {CAPS_FIELDS ",width=128", "height is missing beside width 128"},
        {CAPS_FIELDS ",height=128", "width is missing beside height 128"},
        {CAPS_FIELDS ",width=0,height=1", "width 0 is below 1"},
        {CAPS_FIELDS ",width=129,height=96,spatial-ratio=32", "width 129 does not fit"},
        {CAPS_FIELDS ",width=96,height=96,spatial-ratio=32", "width 96 does not fit"},
        {CAPS_FIELDS ",width=128,height=200,spatial-ratio=32", "height 200 does not fit"},
        {CAPS_FIELDS ",spatial-ratio=-1", "spatial-ratio -1 is below 1"},
        {CAPS_FIELDS ",spatial-ratio=(string)a", "spatial-ratio has type gchararray"},
        {CAPS_FIELDS ",framerate=-1/1", "framerate -1/1 is negative"},
        {CAPS_FIELDS ",pixel-aspect-ratio=0/1", "pixel-aspect-ratio 0/1"},
        {CAPS_FIELDS ",colorimetry=purple", "colorimetry 'purple'"},
        {CAPS_FIELDS ",model=(string)\"/etc/passwd\"", "model '/etc/passwd'"},
        {CAPS_FIELDS ",model=(string)\"../up\"", "model '../up'"},
        {CAPS_FIELDS ",model=(string)\"a/b/c\"", "model 'a/b/c'"},
        {CAPS_FIELDS ",model=(string)\"\"", "model ''"},
        {CAPS_FIELDS ",model-hash=abc", "model-hash 'abc'"},
        {CAPS_FIELDS ",scaling-factor=0.0", "scaling-factor 0 is not above 0"},
        {CAPS_FIELDS ",scaled=(string)yes", "scaled has type gchararray"},
        {"video/x-dcae-latent,format=F32LE,latent-channels=2147483647,"
         "latent-width=2147483647,latent-height=2147483647",
         "too large for memory"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Mux mux;
        mux_init(&mux, "dcaemux", TRUE, NULL);
        mux_caps(&mux, cases[i].caps);
        assert_message(mux.bus, GST_MESSAGE_ERROR, cases[i].text);
        fail_unless_equals_int(mux.file->len, 0);
        mux_clear(&mux);
    }
}
GST_END_TEST;

GST_START_TEST(test_missing_caps_fields)
{
    GstElement *mux = gst_element_factory_make("dcaemux", NULL);
    GstPad *pad = gst_element_get_static_pad(mux, "sink");
    static const gchar *const refused[] = {
        "video/x-dcae-latent",
        "video/x-dcae-latent,format=F16LE,latent-channels=2,latent-width=4",
        "video/x-dcae-latent,format=F64LE,latent-channels=2,latent-width=4,latent-height=3",
        "video/x-dcae-latent,format=F16LE,latent-channels=0,latent-width=4,latent-height=3",
    };
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        GstCaps *caps = gst_caps_from_string(refused[i]);
        fail_if(gst_pad_query_accept_caps(pad, caps), "%s", refused[i]);
        gst_caps_unref(caps);
    }
    gst_object_unref(pad);
    gst_object_unref(mux);
}
GST_END_TEST;

GST_START_TEST(test_wrong_size)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    mux_push_many(&mux, 1);
    fail_unless_equals_int(
        gst_harness_push(mux.h, gst_buffer_new_allocate(NULL, FRAME_SIZE - 1, NULL)),
        GST_FLOW_ERROR);
    assert_message(mux.bus, GST_MESSAGE_ERROR, "Frame 1 has 47 bytes, its caps say 48");
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 1);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

/* ---- tags ---- */

GST_START_TEST(test_tags)
{
    Mux mux;
    Clip clip;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    gst_harness_push_event(
        mux.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "\"a\\b\"\n\303\244", NULL)));
    mux_push_many(&mux, 1);
    gst_harness_push_event(mux.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_ARTIST, "x", NULL)));
    gst_harness_push_event(mux.h, gst_event_new_eos());
    clip_read(&clip, mux_bytes(&mux));
    GstTagList *tags = gst_tag_list_new_from_string(metadata(&clip, "dcae.tags"));
    gchar *text;
    fail_unless(gst_tag_list_get_string(tags, GST_TAG_TITLE, &text));
    fail_unless_equals_string(text, "\"a\\b\"\n\303\244");
    g_free(text);
    fail_unless(gst_tag_list_get_string(tags, GST_TAG_ARTIST, &text));
    fail_unless_equals_string(text, "x");
    g_free(text);
    gst_tag_list_unref(tags);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_tag_setter)
{
    Mux mux;
    Clip clip;
    GstTagList *tags;
    guint n;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    GstElement *element = gst_harness_find_element(mux.h, "dcaemux");
    gst_tag_setter_add_tags(GST_TAG_SETTER(element), GST_TAG_MERGE_APPEND, GST_TAG_TRACK_NUMBER, 7u,
                            NULL);
    gst_object_unref(element);
    mux_push_many(&mux, 1);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    clip_read(&clip, mux_bytes(&mux));
    tags = gst_tag_list_new_from_string(metadata(&clip, "dcae.tags"));
    fail_unless(gst_tag_list_get_uint(tags, GST_TAG_TRACK_NUMBER, &n) && n == 7);
    gst_tag_list_unref(tags);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

static GstTagList *long_tags(void)
{
    gchar *text = g_strnfill(100000, 'x');
    GstTagList *tags = gst_tag_list_new(GST_TAG_COMMENT, text, NULL);
    g_free(text);
    return tags;
}

GST_START_TEST(test_long_tags)
{
    Mux mux;
    Clip clip;
    /* Before the first frame the header grows. */
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    gst_harness_push_event(mux.h, gst_event_new_tag(long_tags()));
    mux_push_many(&mux, 2);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless(strlen(metadata(&clip, "dcae.tags")) > 100000);
    clip_clear(&clip);
    mux_clear(&mux);
    /* Afterwards there is a warning, and all frames are there. */
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    gst_harness_push_event(mux.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_ARTIST, "x", NULL)));
    mux_push_many(&mux, 2);
    gst_harness_push_event(mux.h, gst_event_new_tag(long_tags()));
    assert_message(mux.bus, GST_MESSAGE_WARNING, "set header-size to 10");
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 2);
    fail_unless(strstr(metadata(&clip, "dcae.tags"), "artist") != NULL);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

/* ---- events ---- */

GST_START_TEST(test_flush_begins_a_new_clip)
{
    Mux mux;
    Clip clip;
    GstSegment segment;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    mux_push_many(&mux, 5);
    gst_harness_push_event(mux.h, gst_event_new_flush_start());
    gst_harness_push_event(mux.h, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(mux.h, gst_event_new_segment(&segment));
    mux_push_many(&mux, 2);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    assert_no_message(mux.bus, GST_MESSAGE_ERROR);
    clip_read(&clip, mux_bytes(&mux));
    fail_unless_equals_uint64(clip.n_frames, 2);
    clip_clear(&clip);
    mux_clear(&mux);
}
GST_END_TEST;

GST_START_TEST(test_seek_is_refused)
{
    Mux mux;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    mux_push_many(&mux, 1);
    fail_if(gst_harness_push_upstream_event(
        mux.h, gst_event_new_seek(1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, GST_SEEK_TYPE_SET, 0,
                                  GST_SEEK_TYPE_NONE, -1)));
    mux_clear(&mux);
}
GST_END_TEST;

/* The message that filesink posts reaches the application first. */
GST_START_TEST(test_disk_full_message)
{
    if (!g_file_test("/dev/full", G_FILE_TEST_EXISTS))
        return;
    gchar *path = test_path("disk-full-source.safetensors");
    GBytes *bytes = make_clip("dcaemux", CAPS_FIELDS, 3);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    gchar *launch = g_strdup_printf("filesrc location=%s ! dcaedemux ! dcaemux num-frames=3 ! "
                                    "filesink buffer-mode=unbuffered location=/dev/full",
                                    path);
    GstElement *pipeline = gst_parse_launch(launch, NULL);
    GstBus *bus = gst_element_get_bus(pipeline);
    GError *error = NULL;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GST_MESSAGE_ERROR | GST_MESSAGE_EOS);
    fail_unless(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT), "%s",
                error->message);
    g_error_free(error);
    gst_message_unref(message);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
    g_free(launch);
    g_free(path);
}
GST_END_TEST;

static Suite *clipmux_suite(void)
{
    Suite *suite = suite_create("clipmux");
    TCase *tc = tcase_create("mux");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_whole_file);
    tcase_add_test(tc, test_metadata_are_the_caps);
    tcase_add_test(tc, test_formats);
    tcase_add_test(tc, test_no_frames);
    tcase_add_test(tc, test_no_caps_is_no_clip);
    tcase_add_test(tc, test_header_size);
    tcase_add_test(tc, test_running_time);
    tcase_add_test(tc, test_decreasing_pts);
    tcase_add_test(tc, test_first_header_is_valid);
    tcase_add_test(tc, test_refresh);
    tcase_add_test(tc, test_disk_full);
    tcase_add_test(tc, test_not_seekable);
    tcase_add_test(tc, test_buffer_in_memory);
    tcase_add_test(tc, test_num_frames);
    tcase_add_test(tc, test_num_frames_mismatch);
    tcase_add_test(tc, test_caps_change);
    tcase_add_test(tc, test_framerate_change);
    tcase_add_test(tc, test_bad_caps);
    tcase_add_test(tc, test_missing_caps_fields);
    tcase_add_test(tc, test_wrong_size);
    tcase_add_test(tc, test_tags);
    tcase_add_test(tc, test_tag_setter);
    tcase_add_test(tc, test_long_tags);
    tcase_add_test(tc, test_flush_begins_a_new_clip);
    tcase_add_test(tc, test_seek_is_refused);
    tcase_add_test(tc, test_disk_full_message);
    return suite;
}

GST_CHECK_MAIN(clipmux);

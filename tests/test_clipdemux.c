/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_clipdemux.c - what dcaedemux promises: every file of latents plays, in
 * whichever way it comes, from everywhere and in both directions; what is no
 * such file is refused by the name of what is wrong with it.
 */
#include "clip_common.h"

#include <glib/gstdio.h>
#include <string.h>

#define LATENTS(n, end) \
    "\"latents\":{\"dtype\":\"F16\",\"shape\":[" #n ",2,3,4],\"data_offsets\":[0," #end "]}"

static const PlayMode modes[] = {PLAY_PULL, PLAY_PUSH, PLAY_PUSH_ONLY};

static gchar *clip_file(const gchar *name, const gchar *launch, const gchar *caps, guint n)
{
    gchar *path = test_path(name);
    GBytes *bytes = make_clip(launch, caps, n);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    return path;
}

static gchar *json_file(const gchar *name, const gchar *json, gsize data_size)
{
    gchar *path = test_path(name);
    GBytes *bytes = make_file(json, 0, data_size);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    return path;
}

static void assert_sample(GstSample *sample, guint i, GstClockTime pts, GstClockTime duration)
{
    GstBuffer *buffer = gst_sample_get_buffer(sample);
    assert_frame(buffer, i, FRAME_SIZE);
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), pts);
    fail_unless_equals_uint64(GST_BUFFER_DURATION(buffer), duration);
    fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
    fail_if(GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DELTA_UNIT));
}

static void assert_caps(GstSample *sample, const gchar *wanted)
{
    GstCaps *caps = gst_caps_from_string(wanted);
    fail_unless(gst_caps_is_equal(gst_sample_get_caps(sample), caps), "%" GST_PTR_FORMAT,
                gst_sample_get_caps(sample));
    gst_caps_unref(caps);
}

/* Takes frames first, first + step, … and asserts that each is at its time at
 * 25 frames a second, until the end. */
static void assert_frames(Player *player, gint first, gint last, gint step)
{
    GstSample *sample;
    for (gint i = first; step > 0 ? i <= last : i >= last; i += step) {
        sample = player_pull(player);
        fail_unless(sample != NULL, "frame %d is missing", i);
        assert_sample(sample, i, i * FRAME_TIME, FRAME_TIME);
        if (step != 1)
            fail_unless(
                GST_BUFFER_FLAG_IS_SET(gst_sample_get_buffer(sample), GST_BUFFER_FLAG_DISCONT));
        gst_sample_unref(sample);
    }
}

static void assert_end(Player *player)
{
    fail_unless(player_pull(player) == NULL);
    gboolean eos;
    g_object_get(player->sink, "eos", &eos, NULL);
    fail_unless(eos, "no end");
}

/* ---- playing ---- */

GST_START_TEST(test_round_trip)
{
    gchar *path = clip_file("clip.safetensors", "dcaemux", CAPS_FULL, 30);
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        Player player;
        player_init(&player, modes[m], path, NULL);
        gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
        for (guint i = 0; i < 30; i++) {
            GstSample *sample = player_pull(&player);
            fail_unless(sample != NULL);
            assert_sample(sample, i, i * FRAME_TIME, FRAME_TIME);
            assert_caps(sample, CAPS_FULL);
            fail_unless_equals_int(
                GST_BUFFER_FLAG_IS_SET(gst_sample_get_buffer(sample), GST_BUFFER_FLAG_DISCONT),
                i == 0);
            gst_sample_unref(sample);
        }
        assert_end(&player);
        player_assert_warning(&player, NULL);
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

/* Times that no rate gives, and times that are missing. */
GST_START_TEST(test_tables)
{
    static const gint64 pts[] = {-1, 100000000, 100000000, -1, 900000000, -1};
    static const gint64 duration[] = {-1, 0, 5, -1, -1, -1};
    static const guint64 wanted[][2] = {{60000000, 40000000},  {100000000, 0},
                                        {100000000, 5},        {140000000, 760000000},
                                        {900000000, 40000000}, {940000000, 40000000}};
    const gsize tables = 6 * FRAME_SIZE;
    GBytes *bytes =
        make_file("{" LATENTS(6, 288) ",\"pts\":{\"dtype\":\"I64\",\"shape\":[6],\"data_offsets\":"
                                      "[288,336]},\"duration\":{\"dtype\":\"I64\",\"shape\":[6],"
                                      "\"data_offsets\":[336,384]},\"__metadata__\":{"
                                      "\"dcae.framerate\":\"25/1\"}}",
                  0, tables + 96);
    gsize size;
    guint8 *data = g_bytes_unref_to_data(bytes, &size);
    for (guint i = 0; i < 6; i++) {
        GST_WRITE_UINT64_LE(data + size - 96 + 8 * i, pts[i]);
        GST_WRITE_UINT64_LE(data + size - 48 + 8 * i, duration[i]);
    }
    gchar *path = test_path("tables.safetensors");
    fail_unless(g_file_set_contents(path, (gchar *)data, size, NULL));
    for (guint m = 0; m < 2; m++) {
        Player player;
        gint64 end;
        player_init(&player, modes[m], path, NULL);
        gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
        for (guint i = 0; i < 6; i++) {
            GstSample *sample = player_pull(&player);
            fail_unless(sample != NULL);
            assert_sample(sample, i, wanted[i][0], wanted[i][1]);
            if (i == 0)
                fail_unless_equals_uint64(gst_sample_get_segment(sample)->start, 60000000);
            gst_sample_unref(sample);
        }
        fail_unless(gst_element_query_duration(player.demux, GST_FORMAT_TIME, &end));
        fail_unless_equals_int64(end, 980000000);
        player_clear(&player);
    }
    /* What comes in order gets here before the tables: constant rate. */
    Player player;
    player_init(&player, PLAY_PUSH_ONLY, path, NULL);
    fail_unless(player_preroll(&player));
    assert_frames(&player, 0, 4, 1);
    player_clear(&player);

    /* Times must not decrease. */
    GST_WRITE_UINT64_LE(data + size - 96 + 8 * 4, 99999999);
    fail_unless(g_file_set_contents(path, (gchar *)data, size, NULL));
    for (guint m = 0; m < 2; m++) {
        player_init(&player, modes[m], path, NULL);
        fail_if(player_preroll(&player));
        player_assert_error(&player, "'pts' decreases from 100000000 to 99999999 at frame 4");
        player_clear(&player);
    }
    g_free(data);
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_late_start)
{
    Player player;
    Mux mux;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    for (guint i = 50; i < 55; i++)
        mux_push(&mux, i);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    GBytes *bytes = mux_bytes(&mux);
    mux_clear(&mux);
    gchar *path = test_path("late.safetensors");
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        player_init(&player, modes[m], path, NULL);
        fail_unless(player_preroll(&player));
        GstSample *sample = player_pull(&player);
        /* Nobody waits two seconds for the first frame. */
        fail_unless_equals_uint64(GST_BUFFER_PTS(gst_sample_get_buffer(sample)), 50 * FRAME_TIME);
        fail_unless_equals_uint64(gst_sample_get_segment(sample)->start, 50 * FRAME_TIME);
        gst_sample_unref(sample);
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_plain_files)
{
    static const struct {
        const gchar *json, *properties, *caps;
        gsize size;
        guint n;
    } cases[] = {
        {"{" LATENTS(3, 144) "}", NULL, CAPS_FIELDS ",framerate=25/1", 144, 3},
        {"{" LATENTS(3, 144) "}", "framerate=7/2", CAPS_FIELDS ",framerate=7/2", 144, 3},
        {"{\"latents\":{\"dtype\":\"F32\",\"shape\":[2,1,3,4],\"data_offsets\":[0,96]}}", NULL,
         "video/x-dcae-latent,format=F32LE,latent-channels=1,latent-width=4,latent-height=3,"
         "framerate=25/1",
         96, 2},
        {"{\"latents\":{\"dtype\":\"BF16\",\"shape\":[1,2,3,4],\"data_offsets\":[0,48]}}", NULL,
         "video/x-dcae-latent,format=BF16LE,latent-channels=2,latent-width=4,latent-height=3,"
         "framerate=25/1",
         48, 1},
        /* Other tensors and keys are none of our business. */
        {"{" LATENTS(2, 96) ",\"mask\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[96,100]},"
                            "\"__metadata__\":{\"prompt\":\"x\",\"dcae.mood\":\"good\"}}",
         NULL, CAPS_FIELDS ",framerate=25/1", 100, 2},
        /* ComfyUI. */
        {"{\"latent_tensor\":{\"dtype\":\"F16\",\"shape\":[1,2,3,4],\"data_offsets\":[0,48]},"
         "\"latent_format_version_0\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[48,48]}}",
         NULL, CAPS_FIELDS ",framerate=25/1,scaled=false", 48, 1},
        /* Metadata that agree. */
        {"{" LATENTS(2, 96) ",\"__metadata__\":{\"dcae.format\":\"F16LE\","
                            "\"dcae.latent-channels\":\"2\",\"dcae.framerate\":\"0/1\"}}",
         NULL, CAPS_FIELDS ",framerate=0/1", 96, 2},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *path = json_file("plain.safetensors", cases[i].json, cases[i].size);
        for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
            Player player;
            player_init(&player, modes[m], path, cases[i].properties);
            fail_unless(player_preroll(&player));
            GstSample *sample = player_pull(&player);
            assert_caps(sample, cases[i].caps);
            gst_sample_unref(sample);
            fail_unless_equals_int(player_run(&player), cases[i].n - 1);
            player_assert_warning(&player, NULL);
            player_clear(&player);
        }
        g_free(path);
    }
}
GST_END_TEST;

GST_START_TEST(test_no_frames)
{
    gchar *path = clip_file("none.safetensors", "dcaemux", CAPS_FULL, 0);
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        Player player;
        player_init(&player, modes[m], path, NULL);
        fail_unless_equals_int(player_run(&player), 0);
        fail_unless_equals_int(GST_MESSAGE_TYPE(player.last), GST_MESSAGE_EOS);
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

typedef struct {
    GstTagList *tags;
    gboolean have_group;
    gchar *stream_id;
} Seen;

static GstPadProbeReturn see_event(GstPad *pad, GstPadProbeInfo *info, gpointer user_data)
{
    Seen *seen = user_data;
    GstEvent *event = GST_PAD_PROBE_INFO_EVENT(info);
    GstTagList *tags;
    const gchar *id;
    guint group;
    if (GST_EVENT_TYPE(event) == GST_EVENT_TAG) {
        gst_event_parse_tag(event, &tags);
        gst_tag_list_insert(seen->tags, tags, GST_TAG_MERGE_APPEND);
    } else if (GST_EVENT_TYPE(event) == GST_EVENT_STREAM_START) {
        gst_event_parse_stream_start(event, &id);
        seen->stream_id = g_strdup(id);
        seen->have_group = gst_event_parse_group_id(event, &group);
    }
    return GST_PAD_PROBE_OK;
}

GST_START_TEST(test_tags_and_stream_start)
{
    Mux mux;
    mux_init(&mux, "dcaemux", TRUE, CAPS_FIELDS);
    gst_harness_push_event(
        mux.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "a \"title\"", GST_TAG_ENCODER,
                                                  "dcaeenc", GST_TAG_TRACK_NUMBER, 3u, NULL)));
    mux_push_many(&mux, 1);
    gst_harness_push_event(mux.h, gst_event_new_eos());
    GBytes *bytes = mux_bytes(&mux);
    mux_clear(&mux);
    gchar *path = test_path("tags.safetensors");
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        Player player;
        Seen seen = {.tags = gst_tag_list_new_empty()};
        gchar *text;
        guint n;
        player_init(&player, modes[m], path, NULL);
        GstPad *pad = gst_element_get_static_pad(player.demux, "src");
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, see_event, &seen, NULL);
        gst_object_unref(pad);
        fail_unless_equals_int(player_run(&player), 1);
        fail_unless(seen.have_group && seen.stream_id && *seen.stream_id);
        fail_unless(gst_tag_list_get_string(seen.tags, GST_TAG_TITLE, &text));
        fail_unless_equals_string(text, "a \"title\"");
        g_free(text);
        fail_unless(gst_tag_list_get_string(seen.tags, GST_TAG_ENCODER, &text));
        fail_unless_equals_string(text, "dcaeenc");
        g_free(text);
        fail_unless(gst_tag_list_get_string(seen.tags, GST_TAG_CONTAINER_FORMAT, &text));
        fail_unless_equals_string(text, "safetensors");
        g_free(text);
        fail_unless(gst_tag_list_get_string(seen.tags, GST_TAG_VIDEO_CODEC, &text));
        fail_unless_equals_string(text, "DC-AE latent");
        g_free(text);
        fail_unless(gst_tag_list_get_uint(seen.tags, GST_TAG_TRACK_NUMBER, &n) && n == 3);
        gst_tag_list_unref(seen.tags);
        g_free(seen.stream_id);
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

/* Tags that this GStreamer does not know, or knows to be of another type. */
GST_START_TEST(test_strange_tags)
{
    static const struct {
        const gchar *tags;
        gboolean warning;
    } cases[] = {
        {"taglist, no-such-tag=(string)x, title=(int)3, artist=(string)a", FALSE},
        {"taglist, title=(string){ a, b }", FALSE},
        {"no tag list", TRUE},
        {"", TRUE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Player player;
        gchar *json = g_strdup_printf(
            "{" LATENTS(1, 48) ",\"__metadata__\":{\"dcae.tags\":\"%s\"}}", cases[i].tags);
        gchar *path = json_file("strange.safetensors", json, 48);
        player_init(&player, PLAY_PULL, path, NULL);
        fail_unless_equals_int(player_run(&player), 1);
        player_assert_warning(&player, cases[i].warning ? "dcae.tags" : NULL);
        player_clear(&player);
        g_free(path);
        g_free(json);
    }
}
GST_END_TEST;

/* ---- bad files ---- */

#define META(text) "{" LATENTS(2, 96) ",\"__metadata__\":{" text "}}"
#define TABLE(name, dtype, shape, end)                                           \
    "{" LATENTS(2, 96) ",\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape \
                       ",\"data_offsets\":[96," #end "]}}"

GST_START_TEST(test_bad_files)
{
    static const struct {
        const gchar *json;
        gsize size;
        const gchar *text;
    } cases[] = {
        {"{\"weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
         "no tensor 'latents'"},
        {"{}", 0, "no tensor 'latents'"},
        {"[1,2]", 0, ""},
        {"{\"latents\":3}", 0, "'latents' is no object"},
        {"not json", 0, ""},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[2,3,4],\"data_offsets\":[0,48]}}", 48,
         "tensor 'latents' is [2,3,4], not [frames, channels, height, width]"},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[1,1,2,3,4],\"data_offsets\":[0,48]}}", 48,
         "is [1,1,2,3,4]"},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[3,0,3,4],\"data_offsets\":[0,0]}}", 0,
         "is [3,0,3,4]"},
        {"{\"latents\":{\"dtype\":\"I64\",\"shape\":[1,1,1,2],\"data_offsets\":[0,16]}}", 16,
         "tensor 'latents' has type I64, not F32, F16 or BF16"},
        {"{\"latents\":{\"dtype\":\"F64\",\"shape\":[1,1,1,2],\"data_offsets\":[0,16]}}", 16,
         "type F64"},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[1,2,3,4],\"data_offsets\":[0,50]}}", 50,
         "latents"},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[4294967296,4294967296,2,1],"
         "\"data_offsets\":[0,0]}}",
         0, "latents"},
        {"{\"latents\":{\"dtype\":\"F16\",\"shape\":[0,4294967296,1,1],\"data_offsets\":[0,0]}}", 0,
         "latents"},
        {"{\"latents\":{\"dtype\":\"F32\",\"shape\":[0,65536,65536,65536],"
         "\"data_offsets\":[0,0]}}",
         0, "a frame of tensor 'latents' has"},
        {"{" LATENTS(1, 48) "," LATENTS(1, 48) "}", 48, "latents"},
        {TABLE("pts", "I64", "[3]", 120), 120, "tensor 'pts' is [3], but there are 2 frames"},
        {TABLE("pts", "I64", "[2,1]", 112), 112, "tensor 'pts' is [2,1]"},
        {TABLE("pts", "F64", "[2]", 112), 112, "tensor 'pts' has type F64, not I64"},
        {TABLE("duration", "I64", "[1]", 104), 104, "tensor 'duration' is [1]"},
        {TABLE("duration", "I32", "[2]", 104), 104, "tensor 'duration' has type I32"},
        /* The frame data, read as times, are none. */
        {META("\"dcae.version\":\"9\""), 96, "dcae.version is '9'"},
        {META("\"dcae.complete\":\"maybe\""), 96, "dcae.complete is 'maybe'"},
        {META("\"dcae.first-pts\":\"-5\""), 96, "dcae.first-pts is '-5'"},
        {META("\"dcae.format\":\"F32LE\""), 96, "dcae.format says F32LE, but the tensor has F16LE"},
        {META("\"dcae.latent-channels\":\"3\""), 96, "dcae.latent-channels says 3"},
        {META("\"dcae.latent-width\":\"3\""), 96, "dcae.latent-width says 3"},
        {META("\"dcae.latent-height\":\"4\""), 96, "dcae.latent-height says 4"},
        {META("\"dcae.latent-height\":\"many\""), 96, "dcae.latent-height can't be read"},
        {META("\"dcae.width\":\"64\",\"dcae.height\":\"96\",\"dcae.spatial-ratio\":\"32\""), 96,
         "dcae.width 64 does not fit latent-width 4"},
        {META("\"dcae.width\":\"128\""), 96, "dcae.height is missing"},
        {META("\"dcae.framerate\":\"25/0\""), 96, "dcae.framerate can't be read: '25/0'"},
        {META("\"dcae.framerate\":\"1/-2147483648\""), 96, "dcae.framerate can't be read"},
        {META("\"dcae.framerate\":\"-1/1\""), 96, "dcae.framerate can't be read"},
        {META("\"dcae.scaled\":\"perhaps\""), 96, "dcae.scaled can't be read"},
        {META("\"dcae.scaling-factor\":\"nan\""), 96, "dcae.scaling-factor"},
        {META("\"dcae.scaling-factor\":\"0.5x\""), 96, "dcae.scaling-factor can't be read"},
        {META("\"dcae.model\":\"/home/me/model\""), 96, "dcae.model '/home/me/model'"},
        {META("\"dcae.model-hash\":\"xyz\""), 96, "dcae.model-hash 'xyz'"},
        {META("\"dcae.colorimetry\":\"purple\""), 96, "dcae.colorimetry 'purple'"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *path = json_file("bad.safetensors", cases[i].json, cases[i].size);
        for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
            Player player;
            player_init(&player, modes[m], path, NULL);
            fail_if(player_preroll(&player), "%s", cases[i].json);
            player_assert_error(&player, cases[i].text);
            player_clear(&player);
        }
        g_free(path);
    }
}
GST_END_TEST;

static void assert_refused(const gchar *path, PlayMode mode, const gchar *text)
{
    Player player;
    player_init(&player, mode, path, NULL);
    fail_if(player_preroll(&player), "%s", text);
    player_assert_error(&player, text);
    player_clear(&player);
}

GST_START_TEST(test_lying_sizes)
{
    gchar *path = test_path("lying.safetensors");
    guint8 bytes[4096] = {0};
    static const struct {
        guint64 length;
        gsize size;
        const gchar *text, *push_text;
    } cases[] = {
        {0, 0, NULL, "the file is empty"},
        {100, 5, "the file is empty or ends before", "ends before the header's length"},
        {0, 8, "header length 0", "header length 0"},
        {1, 4096, "header length 1", "header length 1"},
        {100000001, 4096, "header length 100000001 is not", "header length 100000001 is not"},
        {G_MAXUINT64, 4096, "header length 18446744073709551615",
         "header length 18446744073709551615"},
        {99999999, 4096, "ends inside its header", "ends inside its header"},
        {4089, 4096, "ends inside its header", "ends inside its header"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GST_WRITE_UINT64_LE(bytes, cases[i].length);
        fail_unless(g_file_set_contents(path, (gchar *)bytes, cases[i].size, NULL));
        /* filesrc itself refuses empty files in its own words. */
        if (cases[i].text)
            assert_refused(path, PLAY_PULL, cases[i].text);
        assert_refused(path, PLAY_PUSH_ONLY, cases[i].push_text);
    }
    g_free(path);
    /* Longer than the header says. */
    path = json_file("long.safetensors", "{" LATENTS(2, 96) "}", 99);
    assert_refused(path, PLAY_PULL, "the file is 3 bytes longer than its header says");
    assert_refused(path, PLAY_PUSH, "the file is 3 bytes longer than its header says");
    g_free(path);
}
GST_END_TEST;

/* The largest header that the format allows, and one frame. */
GST_START_TEST(test_largest_header)
{
    gchar *path = test_path("largest.safetensors");
    GBytes *bytes = make_file("{" LATENTS(1, 48) "}", 100000000, FRAME_SIZE);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    Player player;
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless_equals_int(player_run(&player), 1);
    player_clear(&player);
    g_unlink(path);
    g_free(path);
}
GST_END_TEST;

/* ---- cut files ---- */

/* Plays what is left of a clip of n frames and asserts that it is either
 * refused or plays whole frames only, with a warning. */
static void play_cut(const gchar *path, PlayMode mode, gsize size, gsize header, guint n)
{
    Player player;
    guint whole = size > header ? MIN((size - header) / FRAME_SIZE, n) : 0;
    player_init(&player, mode, path, NULL);
    guint played = player_run(&player);
    if (whole == 0) {
        fail_unless_equals_int(GST_MESSAGE_TYPE(player.last), GST_MESSAGE_ERROR);
        fail_unless_equals_int(played, 0);
    } else {
        fail_unless_equals_int(GST_MESSAGE_TYPE(player.last), GST_MESSAGE_EOS);
        fail_unless_equals_int(played, whole);
        /* Of a stream that comes in order the tables are not missed. */
        player_assert_warning(&player, mode != PLAY_PUSH_ONLY || whole < n ? "cut short" : NULL);
    }
    player_clear(&player);
}

GST_START_TEST(test_cut_anywhere)
{
    GBytes *bytes = make_clip("dcaemux header-size=64", CAPS_FIELDS ",framerate=25/1", 4);
    gsize size, header = 8 + GST_READ_UINT64_LE(g_bytes_get_data(bytes, &size));
    gchar *path = test_path("cut.safetensors");
    for (gsize k = 0; k < size; k++) {
        write_bytes(path, bytes, k);
        /* filesrc refuses an empty file. */
        if (k > 0)
            play_cut(path, PLAY_PULL, k, header, 4);
        if (k % 7 == 0 || k >= header)
            play_cut(path, PLAY_PUSH_ONLY, k, header, 4);
        if (k > 0 && k % 13 == 0)
            play_cut(path, PLAY_PUSH, k, header, 4);
    }
    g_free(path);
    g_bytes_unref(bytes);
}
GST_END_TEST;

/* A writer that was killed. */
GST_START_TEST(test_unfinished)
{
    gchar *path = test_path("unfinished.safetensors");
    Mux mux;
    mux_init(&mux, "dcaemux refresh-interval=1", TRUE, CAPS_FIELDS ",framerate=10/1");
    for (guint i = 0; i < 6; i++)
        fail_unless_equals_int(
            gst_harness_push(mux.h, make_frame(i, GST_SECOND + i * GST_SECOND / 10, 1)),
            GST_FLOW_OK);
    /* Two frames and a half after the last refresh. */
    mux.position = mux.file->len;
    g_byte_array_set_size(mux.file, mux.file->len + 2 * FRAME_SIZE + FRAME_SIZE / 2);
    GBytes *bytes = mux_bytes(&mux);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    mux_clear(&mux);
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        Player player;
        player_init(&player, modes[m], path, NULL);
        fail_unless(player_preroll(&player));
        for (guint i = 0; i < 6; i++) {
            GstSample *sample = player_pull(&player);
            fail_unless(sample != NULL);
            assert_sample(sample, i, GST_SECOND + i * GST_SECOND / 10, GST_SECOND / 10);
            gst_sample_unref(sample);
            if (i == 0)
                gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
        }
        assert_end(&player);
        player_assert_warning(&player, "never finished: the 6 frames");
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_unfinished_without_refresh)
{
    gchar *path = test_path("first.safetensors");
    Mux mux;
    mux_init(&mux, "dcaemux refresh-interval=0", TRUE, CAPS_FIELDS);
    mux_push_many(&mux, 3);
    GBytes *bytes = mux_bytes(&mux);
    write_bytes(path, bytes, g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    mux_clear(&mux);
    assert_refused(path, PLAY_PULL, "cut off before its first whole frame");
    assert_refused(path, PLAY_PUSH_ONLY, "cut off before its first whole frame");
    g_free(path);
}
GST_END_TEST;

/* Headers with bytes changed at random: refused or played, but never a crash or
 * a hang. */
GST_START_TEST(test_changed_headers)
{
    GBytes *bytes = make_clip("dcaemux header-size=64", CAPS_FULL, 3);
    gchar *path = test_path("changed.safetensors");
    GRand *random = g_rand_new_with_seed(7);
    gsize size, header = 8 + GST_READ_UINT64_LE(g_bytes_get_data(bytes, &size));
    for (guint i = 0; i < 600; i++) {
        Player player;
        guint8 *copy = g_memdup2(g_bytes_get_data(bytes, NULL), size);
        guint n = g_rand_int_range(random, 1, 4);
        while (n--) {
            gsize at = g_rand_int_range(random, 0, header);
            copy[at] = n % 2 ? (guint8)g_rand_int_range(random, 0, 256)
                             : (guint8) "0123456789\"{}[]:,-/ "[g_rand_int_range(random, 0, 20)];
        }
        fail_unless(g_file_set_contents(path, (gchar *)copy, size, NULL));
        g_free(copy);
        player_init(&player, modes[i % 3], path, NULL);
        player_run(&player);
        player_clear(&player);
    }
    g_rand_free(random);
    g_free(path);
    g_bytes_unref(bytes);
}
GST_END_TEST;

/* ---- seeking ---- */

static gboolean seek(Player *player, gdouble rate, GstSeekFlags flags, GstClockTime start,
                     GstClockTime stop)
{
    return gst_element_seek(player->pipeline, rate, GST_FORMAT_TIME, flags, GST_SEEK_TYPE_SET,
                            start, GST_SEEK_TYPE_SET, stop);
}

GST_START_TEST(test_accurate_seek)
{
    gchar *path = clip_file("seek.safetensors", "dcaemux", CAPS_FULL, 50);
    for (guint m = 0; m < 2; m++) {
        Player player;
        player_init(&player, modes[m], path, NULL);
        fail_unless(player_preroll(&player));
        fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE,
                         20 * FRAME_TIME + 1, 23 * FRAME_TIME + 1));
        gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
        GstSample *sample = player_pull(&player);
        const GstSegment *segment = gst_sample_get_segment(sample);
        fail_unless_equals_uint64(segment->start, 20 * FRAME_TIME + 1);
        fail_unless_equals_uint64(segment->time, 20 * FRAME_TIME + 1);
        fail_unless_equals_uint64(segment->stop, 23 * FRAME_TIME + 1);
        assert_sample(sample, 20, 20 * FRAME_TIME, FRAME_TIME);
        fail_unless(GST_BUFFER_FLAG_IS_SET(gst_sample_get_buffer(sample), GST_BUFFER_FLAG_DISCONT));
        gst_sample_unref(sample);
        assert_frames(&player, 21, 23, 1);
        assert_end(&player);
        /* From the end, and again to the start. */
        fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH, 48 * FRAME_TIME, GST_CLOCK_TIME_NONE));
        assert_frames(&player, 48, 49, 1);
        assert_end(&player);
        fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH, 0, GST_CLOCK_TIME_NONE));
        assert_frames(&player, 0, 49, 1);
        assert_end(&player);
        player_assert_warning(&player, NULL);
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_snap)
{
    static const struct {
        GstSeekFlags flags;
        gdouble rate;
        guint64 at, wanted; /* in hundredths of a frame */
    } cases[] = {
        {0, 1, 2030, 2000},
        {GST_SEEK_FLAG_SNAP_BEFORE, 1, 2090, 2000},
        {GST_SEEK_FLAG_SNAP_AFTER, 1, 2010, 2100},
        {GST_SEEK_FLAG_SNAP_NEAREST, 1, 2040, 2000},
        {GST_SEEK_FLAG_SNAP_NEAREST, 1, 2060, 2100},
        {GST_SEEK_FLAG_SNAP_AFTER, 1, 2000, 2000},
        {GST_SEEK_FLAG_SNAP_AFTER, 1, 4950, 4900},
        /* In the direction of playback. */
        {0, -1, 2030, 2100},
        {GST_SEEK_FLAG_SNAP_BEFORE, -1, 2030, 2100},
        {GST_SEEK_FLAG_SNAP_AFTER, -1, 2030, 2000},
    };
    gchar *path = clip_file("snap.safetensors", "dcaemux", CAPS_FULL, 50);
    Player player;
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless(player_preroll(&player));
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstClockTime at = cases[i].at * FRAME_TIME / 100;
        GstClockTime wanted = cases[i].wanted * FRAME_TIME / 100;
        gboolean back = cases[i].rate < 0;
        fail_unless(seek(&player, cases[i].rate,
                         GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_KEY_UNIT | cases[i].flags,
                         back ? 0 : at, back ? at : GST_CLOCK_TIME_NONE));
        GstSample *sample;
        g_signal_emit_by_name(player.sink, "pull-preroll", &sample);
        const GstSegment *segment = gst_sample_get_segment(sample);
        fail_unless_equals_uint64(back ? segment->stop : segment->start, wanted);
        fail_unless_equals_uint64(GST_BUFFER_PTS(gst_sample_get_buffer(sample)),
                                  wanted - (back ? FRAME_TIME : 0));
        gst_sample_unref(sample);
    }
    player_clear(&player);
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_backwards)
{
    gchar *path = clip_file("back.safetensors", "dcaemux", CAPS_FULL, 50);
    Player player;
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless(player_preroll(&player));
    fail_unless(seek(&player, -1, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE, 10 * FRAME_TIME + 1,
                     30 * FRAME_TIME));
    gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
    assert_frames(&player, 29, 10, -1);
    assert_end(&player);
    fail_unless(seek(&player, -2, GST_SEEK_FLAG_FLUSH, 0, GST_CLOCK_TIME_NONE));
    assert_frames(&player, 49, 0, -1);
    assert_end(&player);
    player_clear(&player);
    /* A stream comes forwards only. */
    player_init(&player, PLAY_PUSH, path, NULL);
    fail_unless(player_preroll(&player));
    fail_if(seek(&player, -1, GST_SEEK_FLAG_FLUSH, 0, FRAME_TIME));
    player_clear(&player);
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_trick_modes)
{
    gchar *path = clip_file("trick.safetensors", "dcaemux", CAPS_FULL, 50);
    Player player;
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless(player_preroll(&player));
    gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
    fail_unless(seek(&player, 4, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_SKIP, 0, GST_CLOCK_TIME_NONE));
    assert_frames(&player, 0, 48, 4);
    assert_end(&player);
    fail_unless(seek(&player, -10, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_TRICKMODE_KEY_UNITS, 0,
                     50 * FRAME_TIME));
    assert_frames(&player, 49, 9, -10);
    assert_end(&player);
    /* Without the flag every frame comes. */
    fail_unless(seek(&player, 4, GST_SEEK_FLAG_FLUSH, 0, GST_CLOCK_TIME_NONE));
    assert_frames(&player, 0, 49, 1);
    assert_end(&player);
    /* An interval that the application asks for. */
    GstEvent *event = gst_event_new_seek(1, GST_FORMAT_TIME,
                                         GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_TRICKMODE_KEY_UNITS,
                                         GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_NONE, -1);
    gst_event_set_seek_trickmode_interval(event, 5 * FRAME_TIME);
    fail_unless(gst_element_send_event(player.pipeline, event));
    for (guint i = 0; i < 50; i += 5) {
        GstSample *sample = player_pull(&player);
        assert_sample(sample, i, i * FRAME_TIME, FRAME_TIME);
        gst_sample_unref(sample);
    }
    assert_end(&player);
    player_clear(&player);
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_segment_seek)
{
    gchar *path = clip_file("segment.safetensors", "dcaemux", CAPS_FULL, 20);
    for (guint m = 0; m < 2; m++) {
        Player player;
        GstFormat format;
        gint64 position;
        player_init(&player, modes[m], path, NULL);
        fail_unless(player_preroll(&player));
        fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_SEGMENT, 4 * FRAME_TIME,
                         8 * FRAME_TIME));
        fail_unless_equals_int(player_run(&player), 4);
        fail_unless_equals_int(GST_MESSAGE_TYPE(player.last), GST_MESSAGE_SEGMENT_DONE);
        gst_message_parse_segment_done(player.last, &format, &position);
        fail_unless_equals_int64(position, 8 * FRAME_TIME);
        /* Loops go on without a flush, in a running time without a gap. */
        if (modes[m] == PLAY_PULL) {
            fail_unless(seek(&player, 1, GST_SEEK_FLAG_SEGMENT, 2 * FRAME_TIME, 4 * FRAME_TIME));
            GstSample *sample = player_pull(&player);
            fail_unless_equals_uint64(gst_sample_get_segment(sample)->base, 4 * FRAME_TIME);
            assert_sample(sample, 2, 2 * FRAME_TIME, FRAME_TIME);
            gst_sample_unref(sample);
            fail_unless_equals_int(player_run(&player), 1);
        }
        player_clear(&player);
    }
    g_free(path);
}
GST_END_TEST;

GST_START_TEST(test_refused_seeks)
{
    gchar *path = clip_file("refuse.safetensors", "dcaemux", CAPS_FULL, 20);
    Player player;
    player_init(&player, PLAY_PUSH_ONLY, path, NULL);
    fail_unless(player_preroll(&player));
    fail_if(seek(&player, 1, GST_SEEK_FLAG_FLUSH, 0, GST_CLOCK_TIME_NONE));
    player_clear(&player);
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless(player_preroll(&player));
    fail_if(gst_element_seek_simple(player.demux, GST_FORMAT_BYTES, GST_SEEK_FLAG_FLUSH, 0));
    /* A start behind the stop that is kept. */
    fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH, 0, 5 * FRAME_TIME));
    fail_if(gst_element_seek(player.pipeline, 1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                             GST_SEEK_TYPE_SET, 8 * FRAME_TIME, GST_SEEK_TYPE_NONE, -1));
    player_clear(&player);
    g_free(path);
}
GST_END_TEST;

/* ---- queries ---- */

GST_START_TEST(test_queries)
{
    gchar *path = clip_file("query.safetensors", "dcaemux", CAPS_FULL, 20);
    const gint64 bytes = 65536 + 20 * (FRAME_SIZE + 16);
    Player player;
    gint64 value;
    gboolean seekable;
    GstQuery *query;
    for (guint m = 0; m < G_N_ELEMENTS(modes); m++) {
        player_init(&player, modes[m], path, NULL);
        fail_unless(player_preroll(&player));
        GstElement *d = player.demux;
        fail_unless(gst_element_query_duration(d, GST_FORMAT_TIME, &value));
        fail_unless_equals_int64(value, 20 * FRAME_TIME);
        fail_unless(gst_element_query_duration(d, GST_FORMAT_DEFAULT, &value));
        fail_unless_equals_int64(value, 20);
        if (modes[m] != PLAY_PUSH_ONLY) {
            fail_unless(gst_element_query_duration(d, GST_FORMAT_BYTES, &value));
            fail_unless_equals_int64(value, bytes);
        }
        fail_unless(gst_element_query_convert(d, GST_FORMAT_TIME, 3 * FRAME_TIME + 5,
                                              GST_FORMAT_DEFAULT, &value));
        fail_unless_equals_int64(value, 3);
        fail_unless(gst_element_query_convert(d, GST_FORMAT_DEFAULT, 4, GST_FORMAT_TIME, &value));
        fail_unless_equals_int64(value, 4 * FRAME_TIME);
        fail_unless(gst_element_query_convert(d, GST_FORMAT_DEFAULT, 4, GST_FORMAT_BYTES, &value));
        fail_unless_equals_int64(value, 65536 + 4 * FRAME_SIZE);
        fail_unless(gst_element_query_convert(d, GST_FORMAT_BYTES, 65536 + 4 * FRAME_SIZE + 1,
                                              GST_FORMAT_TIME, &value));
        fail_unless_equals_int64(value, 4 * FRAME_TIME);
        fail_unless(gst_element_query_convert(d, GST_FORMAT_TIME, 99 * GST_SECOND,
                                              GST_FORMAT_DEFAULT, &value));
        fail_unless_equals_int64(value, 20);
        query = gst_query_new_seeking(GST_FORMAT_TIME);
        fail_unless(gst_element_query(d, query));
        gst_query_parse_seeking(query, NULL, &seekable, NULL, &value);
        fail_unless_equals_int(seekable, modes[m] != PLAY_PUSH_ONLY);
        gst_query_unref(query);
        query = gst_query_new_formats();
        GstPad *pad = gst_element_get_static_pad(d, "src");
        guint n;
        fail_unless(gst_pad_query(pad, query));
        gst_query_parse_n_formats(query, &n);
        fail_unless_equals_int(n, 3);
        gst_object_unref(pad);
        gst_query_unref(query);
        player_clear(&player);
    }
    /* Where it is. */
    player_init(&player, PLAY_PULL, path, NULL);
    fail_unless(player_preroll(&player));
    fail_unless(seek(&player, 1, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE, 7 * FRAME_TIME,
                     8 * FRAME_TIME));
    fail_unless_equals_int(player_run(&player), 1);
    GstPad *pad = gst_element_get_static_pad(player.demux, "src");
    fail_unless(gst_pad_query_position(pad, GST_FORMAT_TIME, &value));
    fail_unless_equals_int64(value, 7 * FRAME_TIME);
    fail_unless(gst_pad_query_position(pad, GST_FORMAT_DEFAULT, &value));
    fail_unless_equals_int64(value, 7);
    gst_object_unref(pad);
    player_clear(&player);
    g_free(path);
}
GST_END_TEST;

static Suite *clipdemux_suite(void)
{
    Suite *suite = suite_create("clipdemux");
    TCase *tc = tcase_create("demux");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 180);
    tcase_add_test(tc, test_round_trip);
    tcase_add_test(tc, test_tables);
    tcase_add_test(tc, test_late_start);
    tcase_add_test(tc, test_plain_files);
    tcase_add_test(tc, test_no_frames);
    tcase_add_test(tc, test_tags_and_stream_start);
    tcase_add_test(tc, test_strange_tags);
    tcase_add_test(tc, test_bad_files);
    tcase_add_test(tc, test_lying_sizes);
    tcase_add_test(tc, test_largest_header);
    tcase_add_test(tc, test_cut_anywhere);
    tcase_add_test(tc, test_unfinished);
    tcase_add_test(tc, test_unfinished_without_refresh);
    tcase_add_test(tc, test_changed_headers);
    tcase_add_test(tc, test_accurate_seek);
    tcase_add_test(tc, test_snap);
    tcase_add_test(tc, test_backwards);
    tcase_add_test(tc, test_trick_modes);
    tcase_add_test(tc, test_segment_seek);
    tcase_add_test(tc, test_refused_seeks);
    tcase_add_test(tc, test_queries);
    return suite;
}

GST_CHECK_MAIN(clipdemux);

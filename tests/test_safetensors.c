/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_safetensors.c - the header parser: what it reads, and that every kind of lie is refused with
 * a message that names it.
 */
#include "dcae.h"

#include <string.h>

static DcaeSafetensorsHeader *parse(const char *text, GError **error)
{
    return dcae_safetensors_header_parse((const guint8 *)text, strlen(text), "x.safetensors",
                                         error);
}

static void test_reads(void)
{
    GError *error = NULL;
    DcaeSafetensorsHeader *header =
        parse("{ \"b\" : {\"shape\":[2,3],\"data_offsets\":[4,28],\"dtype\":\"F32\"},\n"
              "\"__metadata__\":{\"format\":\"pt\",\"k\\u00e9y\":\"\\ud83d\\ude00\\n\"},"
              "\"a\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]},"
              "\"e\":{\"dtype\":\"BF16\",\"shape\":[0,5],\"data_offsets\":[28,28]},"
              "\"f\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[28,31],"
              "\"future\":[{\"x\":[1.5e-3,true,null]}]},"
              "\"g\":{\"dtype\":\"NEW\",\"shape\":[9],\"data_offsets\":[31,33]}}   ",
              &error);
    g_assert_no_error(error);
    g_assert_cmpuint(dcae_safetensors_header_n_tensors(header), ==, 5);
    g_assert_cmpuint(dcae_safetensors_header_data_size(header), ==, 33);
    const DcaeTensor *a = dcae_safetensors_header_find(header, "a");
    g_assert_true(a == dcae_safetensors_header_nth(header, 0));
    g_assert_cmpint(a->dtype, ==, DCAE_DTYPE_I32);
    g_assert_cmpuint(a->rank, ==, 0);
    const DcaeTensor *b = dcae_safetensors_header_find(header, "b");
    g_assert_cmpint(b->dtype, ==, DCAE_DTYPE_F32);
    g_assert_cmpuint(b->rank, ==, 2);
    g_assert_cmpuint(b->shape[0], ==, 2);
    g_assert_cmpuint(b->shape[1], ==, 3);
    g_assert_cmpuint(b->begin, ==, 4);
    g_assert_cmpuint(b->end, ==, 28);
    const DcaeTensor *f = dcae_safetensors_header_find(header, "f");
    g_assert_cmpint(f->dtype, ==, DCAE_DTYPE_OTHER);
    g_assert_cmpstr(f->dtype_name, ==, "F8_E4M3");
    g_assert_cmpstr(dcae_safetensors_header_find(header, "g")->dtype_name, ==, "NEW");
    g_assert_null(dcae_safetensors_header_find(header, "c"));
    g_assert_null(dcae_safetensors_header_nth(header, 5));
    g_assert_cmpstr(dcae_safetensors_header_metadata(header, "format"), ==, "pt");
    g_assert_cmpstr(dcae_safetensors_header_metadata(header, "k\xc3\xa9y"), ==,
                    "\xf0\x9f\x98\x80\n");
    g_assert_null(dcae_safetensors_header_metadata(header, "none"));
    dcae_safetensors_header_free(header);
    dcae_safetensors_header_free(NULL);
}

static void test_empty(void)
{
    DcaeSafetensorsHeader *header = parse("{}", NULL);
    g_assert_nonnull(header);
    g_assert_cmpuint(dcae_safetensors_header_n_tensors(header), ==, 0);
    g_assert_cmpuint(dcae_safetensors_header_data_size(header), ==, 0);
    dcae_safetensors_header_free(header);
}

/* One tensor of four F32 whose description ends in what is given. */
#define ONE(rest) "{\"w\":{" rest "}}"
#define GOOD "\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"

static const struct {
    const char *text, *message;
} lies[] = {
    {"", "begin with a brace"},
    {" {}", "begin with a brace"},
    {"[]", "begin with a brace"},
    {"{", "cut short"},
    {"{}}", "text follows"},
    {"{} x", "text follows"},
    {"{\"w\"}", "expected character `:'"},
    {"{\"w\":1}", "'w' is no object"},
    {"{\"w\":{}", "cut short"},
    {"{\"w\":{}}", "'w' lacks its dtype"},
    {"{\"w\":{" GOOD "},}", "no valid JSON"},
    {"{'w':{" GOOD "}}", "no JSON value begins at byte 1"},
    {"{\"w\":{" GOOD "},\"w\":{" GOOD "}}", "'w' twice"},
    {"{\"w\":{" GOOD "},\"\\u0077\":{" GOOD "}}", "'w' twice"},
    {"{\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     "'e' twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", "'__metadata__' twice"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "'a' twice"},
    {"{\"__metadata__\":{\"a\":1}}", "'a' in __metadata__ is no string"},
    {"{\"__metadata__\":[]}", "__metadata__ is no object"},
    {ONE("\"shape\":[4],\"data_offsets\":[0,16]"), "'w' lacks its dtype"},
    {ONE("\"dtype\":\"F32\",\"data_offsets\":[0,16]"), "'w' lacks its shape"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4]"), "'w' lacks its data_offsets"},
    {ONE("\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]"), "dtype of tensor 'w'"},
    {ONE(GOOD ",\"shape\":[4]"), "'shape' twice"},
    {ONE("\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]"),
     "shape of tensor 'w' is no array"},
    {ONE("\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]"), "whole number"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]"), "whole number"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4e0],\"data_offsets\":[0,16]"), "whole number"},
    {ONE("\"dtype\":\"F32\",\"shape\":[\"4\"],\"data_offsets\":[0,16]"), "whole number"},
    {ONE("\"dtype\":\"F32\",\"shape\":[04],\"data_offsets\":[0,16]"), "number is malformed"},
    {ONE("\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,16]"),
     "beyond 64 bits"},
    {ONE("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]"),
     "more than 8 entries"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]"), "two numbers"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,8,16]"), "more than 2 entries"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]"), "'w' ends before"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,15]"), "'w' needs 16 bytes"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]"), "'w' needs 8 bytes"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]"), "hole"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"),
     "'w' overflows"},
    /* 2^62 elements of 4 bytes are 2^64 bytes, which is 0 where the product wraps. */
    {ONE("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"),
     "'w' overflows"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
     "'b' overlaps"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
     "'b' leaves a hole"},
    {ONE(GOOD ",\"x\":tru"), "no valid JSON"},
    {ONE(GOOD ",\"x\":\"\\x\""), "escape is malformed"},
    {ONE(GOOD ",\"x\":\"\\ud800\""), "surrogate"},
    {ONE(GOOD ",\"x\":\"\\ud800\\u0041\""), "surrogate"},
    {ONE(GOOD ",\"x\":\"\\udc00\""), "surrogate"},
    {ONE(GOOD ",\"x\":\"\\u0000\""), "NUL"},
    {ONE(GOOD ",\"x\":\"\t\""), "control character"},
    {"{\"w\":{" GOOD "}", "cut short"},
    {"{\"w\\u00", "escape is malformed"},
    {"{\"w", "string is not closed"},
    {ONE(GOOD ",\"x\":0x10"), "number is malformed"},
    {ONE(GOOD ",\"x\":.5"), "no JSON value begins"},
    {ONE(GOOD ",\"x\":5."), "number is malformed"},
    {ONE(GOOD ",\"x\":- 1"), "number is malformed"},
    {ONE(GOOD ",\"x\":1e"), "number is malformed"},
    {ONE(GOOD ",\"x\":1.2.3"), "no JSON value begins"},
    {ONE(GOOD ",\"x\":\"\x1f\""), "control character"},
    {ONE(GOOD ",\"x\":-99999999999999999999"), "beyond 64 bits"},
    {ONE(GOOD ",\"x\":NaN"), "no JSON value begins"},
    {ONE(GOOD ",\"x\":-Infinity"), "number is malformed"},
    {ONE(GOOD ",\"x\":nan"), "no valid JSON"},
    {ONE(GOOD ",\"x\":1/**/"), "no JSON value begins"},
    {ONE(GOOD ",\"x\":1 2"), "no valid JSON"},
    {"{}{}", "text follows"},
    {"{\"w\":[}]", "no valid JSON"},
    {"{\"w\xff\":{" GOOD "}}", "UTF-8"},
};

static void test_lies(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
        GError *error = NULL;
        DcaeSafetensorsHeader *header = parse(lies[i].text, &error);
        char *shown = g_strescape(lies[i].text, NULL);
        g_test_message("%s", shown);
        g_free(shown);
        g_assert_null(header);
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT);
        g_test_message("%s", error->message);
        g_assert_true(g_str_has_prefix(error->message, "x.safetensors: "));
        g_assert_nonnull(strstr(error->message, lies[i].message));
        g_clear_error(&error);
        g_assert_null(parse(lies[i].text, NULL));
    }
}

/* A text of depth brackets around nothing, in a key that is skipped. */
static char *nested(guint depth)
{
    GString *text = g_string_new("{\"w\":{" GOOD ",\"x\":");
    for (guint i = 0; i < depth; i++)
        g_string_append_c(text, '[');
    for (guint i = 0; i < depth; i++)
        g_string_append_c(text, ']');
    return g_string_free(g_string_append(text, "}}"), FALSE);
}

static void test_depth(void)
{
    GError *error = NULL;
    char *text = nested(62); /* 64 with the two objects around it */
    DcaeSafetensorsHeader *header = parse(text, &error);
    g_assert_no_error(error);
    dcae_safetensors_header_free(header);
    g_free(text);
    text = nested(63);
    g_assert_null(parse(text, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT);
    g_assert_nonnull(strstr(error->message, "nested too deeply"));
    g_clear_error(&error);
    g_free(text);
    text = nested(10000000); /* a parser that recurses would have no stack left */
    g_assert_null(parse(text, NULL));
    g_free(text);
}

static char *many(guint n, const char *last)
{
    GString *text = g_string_new("{");
    for (guint i = 0; i < n; i++)
        g_string_append_printf(text,
                               "\"t%u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%u,%u]},",
                               i, i, i + 1);
    g_string_append_printf(text, "\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                           last);
    return g_string_free(text, FALSE);
}

/* Refused for what it would cost; message says what there is too much of. */
static void refuse(char *text, const char *message)
{
    GError *error = NULL;
    g_assert_null(parse(text, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT);
    g_assert_nonnull(strstr(error->message, message));
    g_clear_error(&error);
    g_free(text);
}

static char *repeat(const char *begin, const char *piece, guint n, const char *end)
{
    GString *text = g_string_new(begin);
    for (guint i = 0; i < n; i++)
        g_string_append(text, piece);
    return g_string_free(g_string_append(text, end), FALSE);
}

/* Keys that all have one hash value, in an object that is skipped: the costliest text there is. */
static char *colliding(guint objects, guint keys)
{
    GString *text = g_string_new("{\"w\":{" GOOD ",\"x\":[0");
    for (guint i = 0; i < objects; i++) {
        g_string_append(text, ",{");
        for (guint k = 0; k < keys; k++) {
            g_string_append(text, k ? ",\"" : "\"");
            for (guint bit = 0; bit < 12; bit++)
                g_string_append(text, k >> bit & 1 ? "aB" : "b!");
            g_string_append(text, "\":0");
        }
        g_string_append_c(text, '}');
    }
    return g_string_free(g_string_append(text, "]}}"), FALSE);
}

static void test_large(void)
{
    GError *error = NULL;
    gint64 start = g_get_monotonic_time();
    char *text = many(4095, "last");
    DcaeSafetensorsHeader *header = parse(text, &error);
    g_assert_no_error(error);
    g_assert_nonnull(dcae_safetensors_header_find(header, "t1234"));
    dcae_safetensors_header_free(header);
    g_free(text);
    refuse(many(4095, "t777"), "'t777' twice");
    refuse(many(4096, "last"), "more than 4096 members");
    refuse(repeat("{\"w\":[0", ",0", 1000000, "]}"), "more than 100000 brackets");
    refuse(repeat("{\"", "k", 1025, "\":0}"), "longer than 1024 bytes");
    text = colliding(3, 4096);
    header = parse(text, &error);
    g_assert_no_error(error);
    dcae_safetensors_header_free(header);
    g_free(text);
    g_test_message("%.1f s", (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC);
    /* Many times what it takes, even under sanitizers on a busy machine. */
    g_assert_cmpint(g_get_monotonic_time() - start, <, 100 * G_USEC_PER_SEC);
}

static void test_size(void)
{
    GError *error = NULL;
    gsize size = 100 * 1000 * 1000 + 1;
    char *text = g_malloc(size);
    memset(text, ' ', size);
    text[0] = '{';
    g_assert_null(
        dcae_safetensors_header_parse((const guint8 *)text, size, "x.safetensors", &error));
    g_assert_nonnull(strstr(error->message, "100 MB"));
    g_clear_error(&error);
    text[size - 2] = '}'; /* one byte less is allowed: an empty header with much padding */
    DcaeSafetensorsHeader *header =
        dcae_safetensors_header_parse((const guint8 *)text, size - 1, "x.safetensors", &error);
    g_assert_no_error(error);
    dcae_safetensors_header_free(header);
    g_free(text);
}

/* What every accepted header promises. */
static void check_promises(const DcaeSafetensorsHeader *header)
{
    guint64 place = 0;
    for (guint i = 0; i < dcae_safetensors_header_n_tensors(header); i++) {
        const DcaeTensor *tensor = dcae_safetensors_header_nth(header, i);
        g_assert_cmpuint(tensor->begin, ==, place);
        g_assert_cmpuint(tensor->end, >=, place);
        g_assert_cmpuint(tensor->rank, <=, DCAE_MAX_RANK);
        g_assert_nonnull(tensor->dtype_name);
        g_assert_true(dcae_safetensors_header_find(header, tensor->name) == tensor);
        place = tensor->end;
    }
    g_assert_cmpuint(dcae_safetensors_header_data_size(header), ==, place);
}

/* Random damage to a good header: refused or harmless, never a crash. */
static void test_damage(void)
{
    static const char good[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[4,1,1],\"data_offsets\":[24,32]},"
        "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[32,40]}}";
    static const char pieces[] = "{}[]\",:0123456789eE-+.\\utrfnl \xff";
    GRand *random = g_rand_new_with_seed(4);
    guint accepted = 0;
    for (guint round = 0; round < 30000; round++) {
        GString *text = g_string_new(good);
        guint n = (guint)g_rand_int_range(random, 1, 4);
        for (guint i = 0; i < n && text->len > 0; i++) {
            gssize place = g_rand_int_range(random, 0, (gint32)text->len);
            char piece = pieces[g_rand_int_range(random, 0, sizeof pieces - 1)];
            switch (g_rand_int_range(random, 0, 4)) {
            case 0:
                text->str[place] = piece;
                break;
            case 1:
                g_string_insert_c(text, place, piece);
                break;
            case 2:
                g_string_erase(text, place, 1);
                break;
            default:
                g_string_truncate(text, (gsize)place + 1);
            }
        }
        /* A copy of exactly this size lets a sanitizer see any byte read beyond it. */
        guint8 *copy = g_memdup2(text->str, text->len);
        DcaeSafetensorsHeader *header = dcae_safetensors_header_parse(copy, text->len, "x", NULL);
        if (header) {
            check_promises(header);
            accepted++;
        }
        dcae_safetensors_header_free(header);
        g_free(copy);
        g_string_free(text, TRUE);
    }
    g_rand_free(random);
    /* Damage inside a name or a metadata value is harmless, so a few must pass. */
    g_assert_cmpuint(accepted, >, 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/safetensors/reads", test_reads);
    g_test_add_func("/safetensors/empty", test_empty);
    g_test_add_func("/safetensors/lies", test_lies);
    g_test_add_func("/safetensors/depth", test_depth);
    g_test_add_func("/safetensors/large", test_large);
    g_test_add_func("/safetensors/size", test_size);
    g_test_add_func("/safetensors/damage", test_damage);
    return g_test_run();
}

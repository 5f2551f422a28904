/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_json.c - looks a text over token by token, then lets json-glib parse it. The look-over
 * leaves the grammar to json-glib and checks only what json-glib 1.6 lets through: its recursion
 * has no limit, its hash tables are slow on keys that were chosen to collide, comments and "0x10"
 * pass, numbers beyond 64 bits wrap, and of two equal keys the last one wins without a word.
 */
#include "dcae_json.h"

#include "dcae.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 64
#define MAX_KEY 1024
#define MAX_MEMBERS 4096
#define MAX_TOKENS 100000
#define SPACES " \t\r\n"

typedef struct {
    const char *pos, *end;
    const char *fault; /* what is wrong at pos, NULL while all is well */
    guint depth, tokens;
    guint members[MAX_DEPTH + 1]; /* of the open objects */
    gsize string_size;            /* of the last string */
} Scan;

static gboolean fail(Scan *scan, const char *fault)
{
    scan->fault = fault;
    return FALSE;
}

/* Four hexadecimal digits, or -1. */
static int read_hex4(const char *text, const char *end)
{
    int value = 0;
    for (guint i = 0; i < 4; i++) {
        if (text + i >= end || !g_ascii_isxdigit(text[i]))
            return -1;
        value = value * 16 + g_ascii_xdigit_value(text[i]);
    }
    return value;
}

/* pos stands behind the backslash. */
static gboolean scan_escape(Scan *scan)
{
    char c = scan->pos < scan->end ? *scan->pos++ : 0;
    if (c != 'u')
        return (c && strchr("\"\\/bfnrt", c)) || fail(scan, "an escape is malformed");
    int code = read_hex4(scan->pos, scan->end);
    if (code <= 0)
        return fail(scan, code ? "an escape is malformed" : "a string holds a NUL character");
    scan->pos += 4;
    if (code >> 10 == 0xd800 >> 10) {
        if (scan->end - scan->pos < 6 || memcmp(scan->pos, "\\u", 2) != 0 ||
            read_hex4(scan->pos + 2, scan->end) >> 10 != 0xdc00 >> 10)
            return fail(scan, "a surrogate stands alone");
        scan->pos += 6;
    } else if (code >> 10 == 0xdc00 >> 10) {
        return fail(scan, "a surrogate stands alone");
    }
    return TRUE;
}

static gboolean scan_string(Scan *scan)
{
    const char *begin = ++scan->pos;
    while (scan->pos < scan->end && *scan->pos != '"') {
        if ((guchar)*scan->pos < 0x20)
            return fail(scan, "a string holds a control character");
        if (*scan->pos++ == '\\' && !scan_escape(scan))
            return FALSE;
    }
    if (scan->pos >= scan->end)
        return fail(scan, "a string is not closed");
    scan->string_size = (gsize)(scan->pos++ - begin);
    return TRUE;
}

static gboolean take(Scan *scan, const char *set)
{
    if (scan->pos == scan->end || !*scan->pos || !strchr(set, *scan->pos))
        return FALSE;
    scan->pos++;
    return TRUE;
}

static gsize skip_digits(Scan *scan)
{
    gsize n = 0;
    while (take(scan, "0123456789"))
        n++;
    return n;
}

static gboolean scan_number(Scan *scan)
{
    static const char largest[] = "9223372036854775807";
    take(scan, "-");
    const char *begin = scan->pos;
    gsize digits = skip_digits(scan), limit = sizeof largest - 1;
    gboolean good = digits == 1 || (digits > 1 && *begin != '0');
    gboolean fraction = take(scan, ".");
    good &= !fraction || skip_digits(scan) > 0;
    gboolean exponent = take(scan, "eE");
    if (exponent)
        take(scan, "+-");
    good &= !exponent || skip_digits(scan) > 0;
    /* "0x10" would be a number to json-glib. */
    if (!good || (scan->pos < scan->end && g_ascii_isalpha(*scan->pos)))
        return fail(scan, "a number is malformed");
    if (!fraction && !exponent &&
        (digits > limit || (digits == limit && memcmp(begin, largest, limit) > 0)))
        return fail(scan, "a whole number is beyond 64 bits");
    return TRUE;
}

static gboolean scan_punctuation(Scan *scan, char c)
{
    scan->pos++;
    if (c == '}' || c == ']') {
        scan->depth--; /* not 0: the text ends where it becomes 0 */
        return TRUE;
    }
    if (++scan->tokens > MAX_TOKENS)
        return fail(scan, "there are more than 100000 brackets, commas and colons");
    if (c == ':' && scan->string_size > MAX_KEY)
        return fail(scan, "a key is longer than 1024 bytes");
    if (c == ':' && ++scan->members[scan->depth] > MAX_MEMBERS)
        return fail(scan, "an object has more than 4096 members");
    if (c == '{' || c == '[') {
        if (scan->depth == MAX_DEPTH)
            return fail(scan, "the text is nested too deeply");
        scan->members[++scan->depth] = 0;
    }
    return TRUE;
}

static gboolean scan_token(Scan *scan)
{
    char c = *scan->pos;
    if (c && strchr("{}[],:", c))
        return scan_punctuation(scan, c);
    if (c == '"')
        return scan_string(scan);
    if (c == '-' || g_ascii_isdigit(c))
        return scan_number(scan);
    /* json-glib knows the words. */
    return take(scan, SPACES) || take(scan, "truefalsn") || fail(scan, "no JSON value begins");
}

static gboolean scan_text(Scan *scan)
{
    while (take(scan, SPACES))
        continue;
    if (scan->pos == scan->end || *scan->pos != '{')
        return fail(scan, "an object is expected");
    do {
        if (!scan_token(scan))
            return FALSE;
    } while (scan->depth > 0 && scan->pos < scan->end);
    while (take(scan, SPACES))
        continue;
    if (scan->depth > 0)
        return fail(scan, "the text is cut short");
    return scan->pos == scan->end || fail(scan, "text follows the end");
}

/* ---- keys that stand twice ---- */

typedef struct {
    guint depth;
    guint members[MAX_DEPTH + 1];
    char *twice;
} Keys;

static void on_object_start(JsonParser *parser, Keys *keys)
{
    (void)parser;
    keys->members[++keys->depth] = 0;
}

/* json-glib has just set the member: a new one made the object larger. */
static void on_object_member(JsonParser *parser, JsonObject *object, const char *key, Keys *keys)
{
    (void)parser;
    if (json_object_get_size(object) != ++keys->members[keys->depth] && !keys->twice)
        keys->twice = g_strdup(key);
}

static void on_object_end(JsonParser *parser, JsonObject *object, Keys *keys)
{
    (void)parser;
    (void)object;
    keys->depth--;
}

static JsonNode *parse(const char *text, gsize size, const char *name, GError **error)
{
    Keys keys = {0};
    GError *cause = NULL;
    JsonNode *root = NULL;
    JsonParser *parser = json_parser_new();
    g_signal_connect(parser, "object-start", G_CALLBACK(on_object_start), &keys);
    g_signal_connect(parser, "object-member", G_CALLBACK(on_object_member), &keys);
    g_signal_connect(parser, "object-end", G_CALLBACK(on_object_end), &keys);
    if (!json_parser_load_from_data(parser, text, (gssize)size, &cause)) {
        /* Between the place and what was expected stands text of the stranger's. */
        const char *expected = g_strrstr(cause->message, "expected ");
        guint line = 0, column = 0;
        sscanf(cause->message, "<data>:%u:%u", &line, &column);
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT,
                    "%s: no valid JSON: %s at line %u, column %u", name,
                    expected ? expected : "no token", line, column);
        g_error_free(cause);
    } else if (keys.twice) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: the text has the key '%s' twice",
                    name, keys.twice);
    } else {
        root = json_parser_steal_root(parser);
    }
    g_object_unref(parser);
    g_free(keys.twice);
    return root;
}

JsonNode *dcae_json_parse(const char *text, gsize size, const char *name, GError **error)
{
    Scan scan = {.pos = text, .end = text + size};
    if (!g_utf8_validate_len(text, size, NULL)) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: not UTF-8 text", name);
        return NULL;
    }
    if (!scan_text(&scan)) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_FORMAT,
                    "%s: no valid JSON: %s at byte %" G_GSIZE_FORMAT, name, scan.fault,
                    (gsize)(scan.pos - text));
        return NULL;
    }
    return parse(text, size, name, error);
}

static GType value_type(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;
}

JsonObject *dcae_json_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *dcae_json_array(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

const char *dcae_json_string(JsonNode *node)
{
    return value_type(node) == G_TYPE_STRING ? json_node_get_string(node) : NULL;
}

gboolean dcae_json_uint(JsonNode *node, guint64 *out)
{
    if (value_type(node) != G_TYPE_INT64 || json_node_get_int(node) < 0)
        return FALSE;
    *out = (guint64)json_node_get_int(node);
    return TRUE;
}

gboolean dcae_json_number(JsonNode *node, double *out)
{
    if (value_type(node) != G_TYPE_INT64 && value_type(node) != G_TYPE_DOUBLE)
        return FALSE;
    *out = json_node_get_double(node);
    return isfinite(*out);
}

gboolean dcae_json_boolean(JsonNode *node, gboolean *out)
{
    if (value_type(node) != G_TYPE_BOOLEAN)
        return FALSE;
    *out = json_node_get_boolean(node);
    return TRUE;
}

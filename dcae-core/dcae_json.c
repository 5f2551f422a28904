/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_json.c - the JSON reader declared in dcae_json.h. Every byte is looked at once, and depth is
 * bounded before anything recurses, so time and stack are bounded for any input.
 */
#include "dcae_json.h"

#include <math.h>
#include <string.h>

void dcae_json_init(DcaeJson *reader, const char *text, gsize size)
{
    *reader = (DcaeJson){.start = text, .pos = text, .end = text + size};
}

gboolean dcae_json_fail(DcaeJson *reader, const char *fault)
{
    if (!reader->fault)
        reader->fault = fault;
    return FALSE;
}

static void skip_space(DcaeJson *reader)
{
    while (reader->pos < reader->end && strchr(" \t\r\n", *reader->pos) && *reader->pos)
        reader->pos++;
}

char dcae_json_peek(DcaeJson *reader)
{
    skip_space(reader);
    return reader->fault || reader->pos == reader->end ? 0 : *reader->pos;
}

static gboolean take(DcaeJson *reader, char c)
{
    if (dcae_json_peek(reader) != c)
        return FALSE;
    reader->pos++;
    return TRUE;
}

gboolean dcae_json_begin(DcaeJson *reader, char open)
{
    if (dcae_json_peek(reader) != open)
        return dcae_json_fail(reader,
                              open == '{' ? "an object is expected" : "an array is expected");
    if (reader->depth == DCAE_JSON_MAX_DEPTH)
        return dcae_json_fail(reader, "the text is nested too deeply");
    reader->pos++;
    reader->depth++;
    reader->fresh = TRUE;
    return TRUE;
}

/* TRUE where another item follows, with its comma taken. */
static gboolean next_item(DcaeJson *reader, char close)
{
    if (reader->fault)
        return FALSE;
    if (take(reader, close)) {
        reader->depth--;
        reader->fresh = FALSE;
        return FALSE;
    }
    if (!reader->fresh && !take(reader, ','))
        return dcae_json_fail(reader, close == '}' ? "a comma or a closing brace is expected"
                                                   : "a comma or a closing bracket is expected");
    reader->fresh = FALSE;
    return TRUE;
}

gboolean dcae_json_item(DcaeJson *reader)
{
    return next_item(reader, ']');
}

gboolean dcae_json_key(DcaeJson *reader, GString *key)
{
    if (!next_item(reader, '}') || !dcae_json_string(reader, key))
        return FALSE;
    return take(reader, ':') || dcae_json_fail(reader, "a colon is expected");
}

/* Four hexadecimal digits at pos. */
static gboolean read_hex4(DcaeJson *reader, gunichar *out)
{
    gunichar value = 0;
    if (reader->end - reader->pos < 4)
        return dcae_json_fail(reader, "an escape is cut short");
    for (guint i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value(reader->pos[i]);
        if (digit < 0)
            return dcae_json_fail(reader, "an escape is malformed");
        value = value * 16 + (gunichar)digit;
    }
    reader->pos += 4;
    *out = value;
    return TRUE;
}

/* The part of a \u escape after the u, surrogate pairs included. */
static gboolean read_unicode(DcaeJson *reader, GString *out)
{
    gunichar c, low;
    if (!read_hex4(reader, &c))
        return FALSE;
    if (c >= 0xd800 && c < 0xdc00) {
        if (reader->end - reader->pos < 2 || reader->pos[0] != '\\' || reader->pos[1] != 'u')
            return dcae_json_fail(reader, "a surrogate stands alone");
        reader->pos += 2;
        if (!read_hex4(reader, &low))
            return FALSE;
        if (low < 0xdc00 || low > 0xdfff)
            return dcae_json_fail(reader, "a surrogate stands alone");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return dcae_json_fail(reader, "a surrogate stands alone");
    }
    if (c == 0)
        return dcae_json_fail(reader, "a string holds a NUL character");
    if (out)
        g_string_append_unichar(out, c);
    return TRUE;
}

static gboolean read_escape(DcaeJson *reader, GString *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (reader->pos == reader->end)
        return dcae_json_fail(reader, "a string is not closed");
    char c = *reader->pos++;
    if (c == 'u')
        return read_unicode(reader, out);
    const char *place = c ? strchr(from, c) : NULL;
    if (!place)
        return dcae_json_fail(reader, "an escape is malformed");
    if (out)
        g_string_append_c(out, to[place - from]);
    return TRUE;
}

gboolean dcae_json_string(DcaeJson *reader, GString *out)
{
    if (!take(reader, '"'))
        return dcae_json_fail(reader, "a string is expected");
    if (out)
        g_string_truncate(out, 0);
    for (;;) {
        const char *run = reader->pos;
        while (reader->pos < reader->end && (guchar)*reader->pos >= 0x20 && *reader->pos != '"' &&
               *reader->pos != '\\')
            reader->pos++;
        if (out)
            g_string_append_len(out, run, reader->pos - run);
        if (reader->pos == reader->end)
            return dcae_json_fail(reader, "a string is not closed");
        char c = *reader->pos;
        if ((guchar)c < 0x20)
            return dcae_json_fail(reader, "a string holds a control character");
        reader->pos++;
        if (c == '"')
            return TRUE;
        if (!read_escape(reader, out))
            return FALSE;
    }
}

static guint skip_digits(DcaeJson *reader)
{
    guint n = 0;
    for (; reader->pos < reader->end && g_ascii_isdigit(*reader->pos); n++)
        reader->pos++;
    return n;
}

static gboolean at(DcaeJson *reader, const char *set)
{
    return reader->pos < reader->end && *reader->pos && strchr(set, *reader->pos);
}

/* Passes one number of JSON's grammar; *begin receives its first character. */
static gboolean scan_number(DcaeJson *reader, const char **begin)
{
    static const char fault[] = "a number is expected";
    dcae_json_peek(reader);
    if (reader->fault)
        return FALSE;
    *begin = reader->pos;
    if (at(reader, "-"))
        reader->pos++;
    gboolean zero = at(reader, "0");
    guint digits = skip_digits(reader);
    if (digits == 0 || (zero && digits > 1))
        return dcae_json_fail(reader, fault);
    if (at(reader, ".")) {
        reader->pos++;
        if (skip_digits(reader) == 0)
            return dcae_json_fail(reader, fault);
    }
    if (at(reader, "eE")) {
        reader->pos++;
        if (at(reader, "+-"))
            reader->pos++;
        if (skip_digits(reader) == 0)
            return dcae_json_fail(reader, fault);
    }
    return TRUE;
}

gboolean dcae_json_uint(DcaeJson *reader, guint64 *out)
{
    static const char fault[] = "a whole number from 0 to 2^64 - 1 is expected";
    const char *begin;
    guint64 value = 0;
    if (!scan_number(reader, &begin))
        return FALSE;
    for (const char *p = begin; p < reader->pos; p++) {
        guint64 digit = (guint64)(*p - '0');
        if (!g_ascii_isdigit(*p) || !g_uint64_checked_mul(&value, value, 10) ||
            !g_uint64_checked_add(&value, value, digit)) {
            reader->pos = begin;
            return dcae_json_fail(reader, fault);
        }
    }
    *out = value;
    return TRUE;
}

gboolean dcae_json_number(DcaeJson *reader, double *out)
{
    char text[128];
    const char *begin;
    if (!scan_number(reader, &begin))
        return FALSE;
    gsize size = (gsize)(reader->pos - begin);
    if (size >= sizeof text)
        return dcae_json_fail(reader, "a number has too many digits");
    memcpy(text, begin, size);
    text[size] = 0;
    *out = g_ascii_strtod(text, NULL);
    return isfinite(*out) || dcae_json_fail(reader, "a number is out of range");
}

static gboolean take_word(DcaeJson *reader, const char *word)
{
    gsize size = strlen(word);
    dcae_json_peek(reader);
    if (reader->fault || (gsize)(reader->end - reader->pos) < size ||
        memcmp(reader->pos, word, size) != 0)
        return FALSE;
    reader->pos += size;
    return TRUE;
}

gboolean dcae_json_boolean(DcaeJson *reader, gboolean *out)
{
    if (take_word(reader, "true"))
        *out = TRUE;
    else if (take_word(reader, "false"))
        *out = FALSE;
    else
        return dcae_json_fail(reader, "true or false is expected");
    return TRUE;
}

gboolean dcae_json_null(DcaeJson *reader)
{
    return take_word(reader, "null") || dcae_json_fail(reader, "null is expected");
}

gboolean dcae_json_skip(DcaeJson *reader)
{
    gboolean flag;
    const char *begin;
    switch (dcae_json_peek(reader)) {
    case '{':
        dcae_json_begin(reader, '{');
        while (dcae_json_key(reader, NULL))
            dcae_json_skip(reader);
        return reader->fault == NULL;
    case '[':
        dcae_json_begin(reader, '[');
        while (dcae_json_item(reader))
            dcae_json_skip(reader);
        return reader->fault == NULL;
    case '"':
        return dcae_json_string(reader, NULL);
    case 't':
    case 'f':
        return dcae_json_boolean(reader, &flag);
    case 'n':
        return dcae_json_null(reader);
    case 0:
        return dcae_json_fail(reader, "the text ends where a value is expected");
    default:
        return scan_number(reader, &begin);
    }
}

gboolean dcae_json_finish(DcaeJson *reader)
{
    if (dcae_json_peek(reader) != 0 || (!reader->fault && reader->pos != reader->end))
        return dcae_json_fail(reader, "text follows the end");
    return reader->fault == NULL;
}

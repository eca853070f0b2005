/*
 * The grammar of HTTP/1.x heads and chunked bodies (RFC 9112), taken strictly: CRLF only, one SP between the parts of a
 * start line, no folded lines (hardening cases 3 and 4). The head machine only reports lines to a sink (machine_priv.h) and
 * knows no rules; the chunk machine only counts, checks and moves bytes.
 *
 * The local service of a driver is its user's own, and other proxies serve what it says: for it there is a second set of
 * rules, called loose, which takes what can be read in one way only. Nothing of a request is ever read with them.
 */
#include "http/chars_priv.h"
#include "http/machine_priv.h"

%%{
    machine http_grammar;
    alphtype unsigned char;

    tchar = [!#$%&'*+\-.^_`|~0-9A-Za-z];
    text = 0x09 | 0x20..0x7e | 0x80..0xff;
    target_byte = 0x21..0x7e - '#';
    blank = [ \t];
    control = any - text - [\r\n];
}%%

/* ---- heads ---- */

%%{
    machine http_head;
    include http_grammar;
    variable cs m->cs;

    # Runs over all that belongs to the piece in one go; the grammar then looks at the byte behind it.
    action run_token { p = http_skip(p + 1, pe, HTTP_C_TOKEN) - 1; }
    action run_text { p = http_skip_text(p + 1, pe) - 1; }
    action run_target {
        size_t room = m->max_target - ht_min(m->max_target, (size_t)(p - base) - m->mark);
        if (room == 0) {
            m->bad = HTTP_LONG_TARGET;
            fbreak;
        }
        p = http_skip(p + 1, p + ht_min(room, (size_t)(pe - p)), HTTP_C_TARGET) - 1;
    }

    action here { m->mark = (uint32_t)(p - base); }
    action behind { m->mark = (uint32_t)(p + 1 - base); }
    action end_a { m->a = piece(base, m->mark, p); }
    action end_b { m->b = piece(base, m->mark, p); }
    action major { m->version = (uint16_t)(10 * (*p - '0')); }
    action minor { m->version = (uint16_t)(m->version + (*p - '0')); }
    action status { m->status = (uint16_t)(m->status * 10 + (*p - '0')); }

    action request_line {
        if (!sink(ctx, HTTP_EV_REQUEST_LINE, m)) {
            m->bad = HTTP_STOPPED;
            fbreak;
        }
        fgoto lines;
    }
    action status_line {
        if (!sink(ctx, HTTP_EV_STATUS_LINE, m)) {
            m->bad = HTTP_STOPPED;
            fbreak;
        }
        fgoto lines;
    }
    action field {
        if (!sink(ctx, HTTP_EV_FIELD, m)) {
            m->bad = HTTP_STOPPED;
            fbreak;
        }
    }
    action end {
        m->bad = sink(ctx, HTTP_EV_END, m) ? HTTP_DONE : HTTP_STOPPED;
        fbreak;
    }

    action bad_line_end { m->bad = HTTP_BAD_LINE_END; }
    action bad_method { m->bad = HTTP_BAD_METHOD; }
    action bad_target { m->bad = *p == '\r' || *p == '\n' ? HTTP_BAD_VERSION : HTTP_BAD_TARGET; }
    action bad_version { m->bad = HTTP_BAD_VERSION; }
    action bad_status { m->bad = HTTP_BAD_STATUS; }
    action bad_reason { m->bad = *p == '\n' ? HTTP_BAD_LINE_END : HTTP_BAD_REASON; }
    action bad_start {
        m->bad = *p == '\n' ? HTTP_BAD_LINE_END : http_is_blank((char)*p) ? HTTP_FOLDED : HTTP_BAD_NAME;
    }
    action bad_name { m->bad = HTTP_BAD_NAME; }
    action bad_value { m->bad = *p == '\n' ? HTTP_BAD_LINE_END : HTTP_BAD_VALUE; }

    action line { m->dirty = false; }
    action dirty { m->dirty = true; }
    action odd_start { m->odd |= HTTP_ODD_START_LINE; }
    action odd_name { m->odd |= HTTP_ODD_NAME; }
    action odd_line_end { m->odd |= HTTP_ODD_LINE_END; }
    action odd_reason { m->odd |= HTTP_ODD_CONTROL; }
    action loose_status_line {
        if (!sink(ctx, HTTP_EV_STATUS_LINE, m)) {
            m->bad = HTTP_STOPPED;
            fbreak;
        }
        fgoto loose_lines;
    }
    action fold {
        if (!sink(ctx, HTTP_EV_FOLD, m)) {
            m->bad = HTTP_STOPPED;
            fbreak;
        }
    }
    action bad_loose_start { m->bad = HTTP_BAD_NAME; }
    action bad_loose_value { m->bad = HTTP_BAD_VALUE; }
    action bad_loose_reason { m->bad = HTTP_BAD_REASON; }

    crlf = "\r\n" <>!bad_line_end;
    version = ("HTTP/" digit @major "." digit @minor) $!bad_version;

    method = (tchar+ >here $run_token %end_a) $!bad_method;
    target = (target_byte+ >here $run_target %end_b) $!bad_target;
    # RFC 9112 2.2: at least one empty line before a request line is to be ignored; max_head bounds them.
    request := crlf* method " " target " " version crlf @request_line;

    status = (" " digit{3} $status) $!bad_status;
    # The SP before an empty reason is missing in the wild.
    reason = (" " @behind text* $run_text %end_a) <!bad_reason;
    response := version status reason? crlf @status_line;

    name = (tchar+ >here $run_token %end_a) >!bad_start <!bad_name;
    value = (":" @behind text* $run_text %end_b) <!bad_value;
    lines := (name value crlf @field)* crlf @end;

    # RFC 9112 2.2: an LF alone may end a line. A CR alone never does.
    eol = ("\r\n" | "\n" @odd_line_end) <>!bad_line_end;
    # RFC 9112 4: the parts of a status line may be told apart by any blanks.
    loose_gap = (" " | "\t" @odd_start) (blank @odd_start)*;
    loose_status = (loose_gap digit{3} $status) $!bad_status;
    loose_reason = (blank @behind (text $run_text | control $odd_reason)* %end_a) <!bad_loose_reason;
    loose_response := (eol >odd_start)* version loose_status loose_reason? eol @loose_status_line;

    loose_name = (tchar+ >here >line $run_token %end_a (blank+ $odd_name)?) >!bad_loose_start <!bad_name;
    # RFC 9110 5.5: a control byte in a value may become a SP; a NUL is refused.
    loose_text = (text $run_text | (control - 0) $dirty)*;
    loose_value = (":" @behind loose_text %end_b) <!bad_loose_value;
    # RFC 9112 5.2: a folded line goes on with the value above.
    folded = (blank >here >line loose_text %end_b) <!bad_loose_value;
    loose_lines := (loose_name loose_value eol @field | folded eol @fold)* eol @end;
}%%

%% write data nofinal noerror;

static struct http_span piece(const unsigned char *base, uint32_t mark, const unsigned char *p) {
    const unsigned char *a = base + mark;
    while (p > a && http_is_blank((char)p[-1]))
        p--;
    while (a < p && http_is_blank((char)*a))
        a++;
    return (struct http_span){(uint32_t)(a - base), (uint32_t)(p - a)};
}

void http_machine_begin(struct http_machine *m, enum http_kind kind, uint32_t max_target) {
    *m = (struct http_machine){.max_target = max_target};
    m->cs = kind == HTTP_REQUEST ? http_head_en_request
            : kind == HTTP_RESPONSE ? http_head_en_response
                                    : http_head_en_loose_response;
}

enum http_result http_machine_run(struct http_machine *m, const char *buf, uint32_t len, http_sink_fn *sink,
                                  void *ctx) {
    if (m->bad)
        return (enum http_result)m->bad;
    const unsigned char *base = (const unsigned char *)buf, *p = base + m->pos, *pe = base + len;
    const unsigned char *eof = NULL; /* running out of bytes is no error here */
    %% write exec;
    m->pos = (uint32_t)(p - base);
    return (enum http_result)m->bad;
}

/* ---- chunked bodies ---- */

%%{
    machine http_chunks;
    include http_grammar;
    variable cs c->cs;

    # Leading zeros count as overhead, else a size line could go on for ever.
    action digit {
        if (c->left >> 59) {
            why = "the chunk size is too large";
            fbreak;
        }
        c->left = c->left << 4 | hex(*p);
        if (c->left == 0 && ++c->overhead > HTTP_MAX_CHUNK_OVERHEAD) {
            why = "too many bytes in chunk extensions and trailers";
            fbreak;
        }
    }
    action count {
        if (++c->overhead > HTTP_MAX_CHUNK_OVERHEAD) {
            why = "too many bytes in chunk extensions and trailers";
            fbreak;
        }
    }
    # They may be lost (RFC 9110 6.5.1); the message may not.
    action keep {
        if (c->trailers && ht_buf_append(c->trailers, p, 1)) {
            ht_buf_free(c->trailers);
            c->trailers = NULL;
        }
    }
    action size_end {
        if (c->left)
            fgoto data;
        if (c->loose)
            fgoto loose_trailer;
        fgoto trailer;
    }
    action data {
        size_t n = (size_t)(pe - p);
        if (n > c->left)
            n = (size_t)c->left;
        if (to != p)
            memmove(to, p, n);
        to += n;
        c->left -= n;
        p += n - 1;
        if (c->left == 0 && c->loose)
            fgoto loose_data_end;
        if (c->left == 0)
            fgoto data_end;
    }
    action next { fgoto size; }
    action loose_next { fgoto loose_size; }
    action odd { c->odd = true; }
    action done {
        c->done = true;
        fbreak;
    }
    action bad_size { why = "bad chunk size line"; }
    action bad_data_end { why = "no CRLF behind the data of a chunk"; }
    action bad_trailer { why = "bad trailer field"; }

    crlf = "\r\n";
    bws = [ \t]*;
    quoted = '"' ((text - ["\\]) | "\\" text)* '"';
    extension = bws ";" bws tchar+ (bws "=" bws (tchar+ | quoted))?;

    size := ((xdigit $digit)+ (extension* $count) crlf @size_end) $!bad_size;
    data := (any @data)*;
    data_end := (crlf @next) $!bad_data_end;
    trailer := (((tchar+ ":" text* crlf) $count $keep)* crlf @done) $!bad_trailer;

    # Sizes padded with blanks, and LF alone where it can only be a line's end: not behind an extension, whose end
    # others look for elsewhere (CVE-2025-55315).
    eol = "\r\n" | "\n" @odd;
    padded = blank+ $count (eol @odd);
    loose_size := ((xdigit $digit)+ (eol | padded | extension+ $count crlf) @size_end) $!bad_size;
    loose_data_end := (eol @loose_next) $!bad_data_end;
    loose_trailer := (((tchar+ ":" text* eol) $count $keep)* eol @done) $!bad_trailer;
}%%

%% write data nofinal noerror;

static unsigned hex(unsigned char c) { return c <= '9' ? c - (unsigned)'0' : (c | 0x20u) - 'a' + 10; }

int http_chunked_decode(struct http_chunked *c, char *buf, size_t *len, size_t *used, struct http_error *e) {
    unsigned char *p = (unsigned char *)buf, *to = p;
    const unsigned char *pe = p + *len, *eof = NULL;
    const char *why = NULL;
    if (!c->started) {
        c->started = true;
        c->cs = c->loose ? http_chunks_en_loose_size : http_chunks_en_size;
    }
    if (!c->done && !c->failed) {
        %% write exec;
    }
    *used = (size_t)(p - (unsigned char *)buf);
    *len = (size_t)(to - (unsigned char *)buf);
    if (why)
        c->failed = why;
    if (!c->failed)
        return HT_OK;
    *e = (struct http_error){400, c->failed};
    return HT_EPROTO;
}

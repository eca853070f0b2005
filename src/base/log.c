#include "base/log.h"

#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE 3072
#define SENTENCE 1024
#define VALUE 512 /* of one text: a path of a stranger does not fill the line */

enum ht_log_level ht_log_level_now = HT_LOG_INFO;
static int log_fd = 2;
static enum ht_log_format log_format = HT_LOG_TEXT;

void ht_log_setup(int fd, enum ht_log_level level, enum ht_log_format format) {
    log_fd = fd;
    ht_log_level_now = level;
    log_format = format;
}

/* ---- fields ---- */

static bool is_there(const struct ht_log_field *f) { return !f->absent && (f->is_number || f->text.n > 0); }

/* A value that could be taken for two, or for none, stands between quotes. */
static bool wants_quotes(const char *text) { return text[strcspn(text, " \"=\\")] != '\0'; }

static int put_text_field(const struct ht_log_field *f, char *out, size_t cap) {
    char value[VALUE];
    if (f->is_number)
        return snprintf(out, cap, " %s=%" PRIu64, f->name, f->number);
    ht_text_put(f->text, HT_TEXT_PLAIN, value, sizeof value);
    if (!wants_quotes(value))
        return snprintf(out, cap, " %s=%s", f->name, value);
    ht_text_put(f->text, HT_TEXT_JSON, value, sizeof value);
    return snprintf(out, cap, " %s=\"%s\"", f->name, value);
}

static int put_json_field(const struct ht_log_field *f, char *out, size_t cap) {
    char value[VALUE];
    if (f->is_number)
        return snprintf(out, cap, ",\"%s\":%" PRIu64, f->name, f->number);
    ht_text_put(f->text, HT_TEXT_JSON, value, sizeof value);
    return snprintf(out, cap, ",\"%s\":\"%s\"", f->name, value);
}

/* As many whole fields as fit. */
static size_t put_fields(const struct ht_log_field *fields, size_t n, bool json, char *out, size_t cap) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_there(&fields[i]))
            continue;
        int w =
            json ? put_json_field(&fields[i], out + len, cap - len) : put_text_field(&fields[i], out + len, cap - len);
        if (w < 0 || (size_t)w >= cap - len)
            break;
        len += (size_t)w;
    }
    out[len] = '\0';
    return len;
}

size_t ht_log_fields_text(const struct ht_log_field *fields, size_t n, char *out, size_t cap) {
    return put_fields(fields, n, false, out, cap);
}

/* ---- lines ---- */

static void write_line(enum ht_log_level level, const char *area, const struct ht_log_field *fields, size_t n,
                       const char *sentence) {
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    char text[2 * SENTENCE], when[HT_TIME_TEXT], line[LINE];
    bool json = log_format == HT_LOG_JSON;
    ht_text_put(ht_slice_str(sentence), json ? HT_TEXT_JSON : HT_TEXT_PLAIN, text, json ? sizeof text : SENTENCE);
    int len = snprintf(line, sizeof line,
                       json ? "{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\",\"message\":\"%s\"" : "%s %-5s %s: %s",
                       ht_now_text(when), names[level], area, text);
    if (len < 0)
        return;
    size_t at = ht_min((size_t)len, sizeof line - 3);
    at += put_fields(fields, n, json, line + at, sizeof line - at - 2); /* room for what closes the line */
    if (json)
        line[at++] = '}';
    line[at++] = '\n';
    /* A log that cannot be written must not stop the daemon: one try, no more. */
    (void)!write(log_fd, line, at);
}

/* For whom the level is on. errno stays as it was: a line is often the first thing behind an error. */
static void tell(enum ht_log_level level, const char *area, const struct ht_log_field *fields, size_t n,
                 const char *fmt, va_list ap) {
    int saved = errno;
    char raw[SENTENCE];
    vsnprintf(raw, sizeof raw, fmt, ap);
    write_line(level, area, fields, n, raw);
    errno = saved;
}

void ht_log(enum ht_log_level level, const char *area, const char *fmt, ...) {
    if (!ht_log_enabled(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    tell(level, area, NULL, 0, fmt, ap);
    va_end(ap);
}

void ht_log_line(enum ht_log_level level, const char *area, const struct ht_log_field *fields, size_t n,
                 const char *fmt, ...) {
    if (!ht_log_enabled(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    tell(level, area, fields, n, fmt, ap);
    va_end(ap);
}

/* ---- the budget of strangers ---- */

#define MS_PER_LINE (1000 / HT_LOG_STRANGERS_RATE)

static struct {
    uint64_t spent_until_ms; /* the time at which the lines so far are paid for */
    uint64_t left_out;
    void (*on_first)(void *);
    void *ctx;
} strangers;

void ht_log_on_left_out(void (*fn)(void *ctx), void *ctx) {
    strangers.on_first = fn;
    strangers.ctx = ctx;
}

void ht_log_tell_left_out(void) {
    uint64_t n = strangers.left_out;
    strangers.left_out = 0;
    if (n == 0)
        return;
    struct ht_log_field count = {.name = "count", .is_number = true, .number = n};
    ht_log_line(HT_LOG_WARN, "log", &count, 1,
                "log lines about clients without a token were left out: too many at once");
}

bool ht_log_budget(enum ht_log_level level) {
    uint64_t now = ht_now_ms();
    if (level >= HT_LOG_DEBUG)
        return true;
    if (strangers.spent_until_ms < now)
        strangers.spent_until_ms = now;
    if (strangers.spent_until_ms + MS_PER_LINE > now + HT_LOG_STRANGERS_BURST * MS_PER_LINE) {
        if (strangers.left_out++ == 0 && strangers.on_first)
            strangers.on_first(strangers.ctx);
        return false;
    }
    strangers.spent_until_ms += MS_PER_LINE;
    if (strangers.left_out > 0)
        ht_log_tell_left_out();
    return true;
}

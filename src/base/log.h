/*
 * Log lines for people and machines. One line per event; what came from elsewhere is spelled out as base/text.h says,
 * so that nobody can forge a line (hardening case 26) or speak to the terminal of who reads it. Secrets are never
 * passed here.
 *
 * A line has a sentence and fields. The fields' names and types are those of spec/log.yaml, made by log_gen.h:
 *
 *   ht_log_with(HT_LOG_INFO, "session", HT_LOG_FIELDS(log_session(s->id), log_port(port)), "bound");
 *
 * Nothing is formatted, and no argument is looked at, when the level is off.
 */
#ifndef HT_BASE_LOG_H
#define HT_BASE_LOG_H

#include "base/base.h"

enum ht_log_level { HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG, HT_LOG_TRACE };
enum ht_log_format { HT_LOG_TEXT, HT_LOG_JSON };

/* Where lines go; the default is text to standard error from level info up. `fd` stays the caller's. */
void ht_log_setup(int fd, enum ht_log_level level, enum ht_log_format format);

extern enum ht_log_level ht_log_level_now; /* ht_log_setup() sets it */
static inline bool ht_log_enabled(enum ht_log_level level) { return level <= ht_log_level_now; }

struct ht_log_field {
    const char *name;
    bool is_number;
    bool absent; /* left out: a number that says nothing */
    uint64_t number;
    struct ht_slice text; /* empty: the field is left out */
};
/* Two arguments: the fields and how many. */
#define HT_LOG_FIELDS(...)                                                                                             \
    (const struct ht_log_field[]){__VA_ARGS__},                                                                        \
        sizeof((const struct ht_log_field[]){__VA_ARGS__}) / sizeof(struct ht_log_field)
#define HT_LOG_MAX_FIELDS 16

/* `area` is a room or a role: "kit", "session", "visitor". The text is one sentence without a newline. */
void ht_log(enum ht_log_level level, const char *area, const char *fmt, ...) HT_PRINTF(3, 4);
void ht_log_line(enum ht_log_level level, const char *area, const struct ht_log_field *fields, size_t n,
                 const char *fmt, ...) HT_PRINTF(5, 6);

#define ht_log_with(level, area, ...)                                                                                  \
    do {                                                                                                               \
        if (ht_log_enabled(level))                                                                                     \
            ht_log_line(level, area, __VA_ARGS__);                                                                     \
    } while (0)

#define ht_error(area, ...) ht_log(HT_LOG_ERROR, area, __VA_ARGS__)
#define ht_warn(area, ...) ht_log(HT_LOG_WARN, area, __VA_ARGS__)
#define ht_info(area, ...) ht_log(HT_LOG_INFO, area, __VA_ARGS__)
#define ht_debug(area, ...)                                                                                            \
    do {                                                                                                               \
        if (ht_log_enabled(HT_LOG_DEBUG))                                                                              \
            ht_log(HT_LOG_DEBUG, area, __VA_ARGS__);                                                                   \
    } while (0)

/* ---- lines that strangers can cause ---- */

/*
 * All of them share one budget: HT_LOG_STRANGERS_BURST lines, and HT_LOG_STRANGERS_RATE more each second. What is over
 * it is counted, and the count is a line of its own before the next one. Debug lines were asked for and have no budget.
 */
#define HT_LOG_STRANGERS_BURST 50
#define HT_LOG_STRANGERS_RATE 5

#define ht_log_stranger(level, area, ...)                                                                              \
    do {                                                                                                               \
        if (ht_log_enabled(level) && ht_log_budget(level))                                                             \
            ht_log_line(level, area, __VA_ARGS__);                                                                     \
    } while (0)
bool ht_log_budget(enum ht_log_level level);
/* Writes the line with the count, if any were left out. */
void ht_log_tell_left_out(void);
/* Calls `fn` when the first line is left out, so that somebody with a timer can see to it that the count is told. NULL:
 * nobody. */
void ht_log_on_left_out(void (*fn)(void *ctx), void *ctx);

/* The fields as they stand in a line of text, " name=value" each, cut off behind a whole field. Returns the length. */
size_t ht_log_fields_text(const struct ht_log_field *fields, size_t n, char *out, size_t cap);

#endif

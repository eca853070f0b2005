/*
 * Log lines for people and machines, one line per event. Control characters in texts are escaped as base/text.h says,
 * so that a peer cannot forge a line or control the reader's terminal (hardening case 26). Callers never pass secrets.
 *
 * A line has a sentence and fields. spec/log.yaml has the names and types of the fields; log_gen.h has a function for
 * each:
 *
 *   ht_log_with(HT_LOG_INFO, "session", HT_LOG_FIELDS(log_session(s->id), log_port(port)), "bound");
 *
 * When the level is off, nothing is formatted. The macros ht_log_with(), ht_log_stranger() and ht_debug() do not even
 * evaluate their arguments then.
 */
#ifndef HT_BASE_LOG_H
#define HT_BASE_LOG_H

#include "base/base.h"

enum ht_log_level { HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG, HT_LOG_TRACE };
enum ht_log_format { HT_LOG_TEXT, HT_LOG_JSON };

/* Sets where lines go. The default is text to standard error, level info and above. The caller keeps owning `fd`. */
void ht_log_setup(int fd, enum ht_log_level level, enum ht_log_format format);

extern enum ht_log_level ht_log_level_now; /* only ht_log_setup() changes it */
static inline bool ht_log_enabled(enum ht_log_level level) { return level <= ht_log_level_now; }

struct ht_log_field {
    const char *name;
    bool is_number;
    bool absent; /* true: a number that means nothing here, so the field is left out */
    uint64_t number;
    struct ht_slice text; /* empty: the field is left out */
};
/* Expands to two arguments: an array of fields and its length. */
#define HT_LOG_FIELDS(...)                                                                                             \
    (const struct ht_log_field[]){__VA_ARGS__},                                                                        \
        sizeof((const struct ht_log_field[]){__VA_ARGS__}) / sizeof(struct ht_log_field)
#define HT_LOG_MAX_FIELDS 16

/* `area` is a room or a role, such as "kit", "session" or "visitor". The text is one sentence without a newline. */
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
 * All these lines share one budget, so that a stranger cannot fill the disk: HT_LOG_STRANGERS_BURST lines at once, and
 * HT_LOG_STRANGERS_RATE more each second. Lines beyond the budget are left out and counted; the next line is preceded
 * by a line with the count. Debug and trace lines have no budget: an operator has asked for them.
 */
#define HT_LOG_STRANGERS_BURST 50
#define HT_LOG_STRANGERS_RATE 5

#define ht_log_stranger(level, area, ...)                                                                              \
    do {                                                                                                               \
        if (ht_log_enabled(level) && ht_log_budget(level))                                                             \
            ht_log_line(level, area, __VA_ARGS__);                                                                     \
    } while (0)
bool ht_log_budget(enum ht_log_level level);
/* Writes the line with the count of lines left out, if there were any. */
void ht_log_tell_left_out(void);
/* Sets a function that is called when the first line is left out. It can start a timer that calls
 * ht_log_tell_left_out(). NULL: none. */
void ht_log_on_left_out(void (*fn)(void *ctx), void *ctx);

/* Writes the fields as in a line of text, " name=value" each, and a NUL to out[0..cap). A field that does not fit is
 * left out with all that follow. Returns the length. */
size_t ht_log_fields_text(const struct ht_log_field *fields, size_t n, char *out, size_t cap);

#endif

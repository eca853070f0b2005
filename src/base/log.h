/*
 * Log lines for people and machines. One line per event; what came from elsewhere is spelled out as base/text.h says,
 * so that nobody can forge a line (hardening case 26) or speak to the terminal of who reads it. Secrets are never
 * passed here.
 */
#ifndef HT_BASE_LOG_H
#define HT_BASE_LOG_H

#include "base/base.h"

enum ht_log_level { HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG, HT_LOG_TRACE };
enum ht_log_format { HT_LOG_TEXT, HT_LOG_JSON };

/* Where lines go; the default is text to standard error from level info up. `fd` stays the caller's. */
void ht_log_setup(int fd, enum ht_log_level level, enum ht_log_format format);

bool ht_log_enabled(enum ht_log_level level);

/* `area` is a room or a role: "kit", "session", "visitor". The text is one sentence without a newline. */
void ht_log(enum ht_log_level level, const char *area, const char *fmt, ...) HT_PRINTF(3, 4);

#define ht_error(area, ...) ht_log(HT_LOG_ERROR, area, __VA_ARGS__)
#define ht_warn(area, ...) ht_log(HT_LOG_WARN, area, __VA_ARGS__)
#define ht_info(area, ...) ht_log(HT_LOG_INFO, area, __VA_ARGS__)
#define ht_debug(area, ...)                                                                                            \
    do {                                                                                                               \
        if (ht_log_enabled(HT_LOG_DEBUG))                                                                              \
            ht_log(HT_LOG_DEBUG, area, __VA_ARGS__);                                                                   \
    } while (0)

#endif

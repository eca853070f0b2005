#include "base/log.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int log_fd = 2;
static enum ht_log_level log_level = HT_LOG_INFO;
static enum ht_log_format log_format = HT_LOG_TEXT;

void ht_log_setup(int fd, enum ht_log_level level, enum ht_log_format format) {
    log_fd = fd;
    log_level = level;
    log_format = format;
}

bool ht_log_enabled(enum ht_log_level level) { return level <= log_level; }

void ht_log(enum ht_log_level level, const char *area, const char *fmt, ...) {
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    if (!ht_log_enabled(level))
        return;
    int saved = errno;
    char raw[1024], text[2048], line[2560];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    bool json = log_format == HT_LOG_JSON;
    ht_text_put(ht_slice_str(raw), json ? HT_TEXT_JSON : HT_TEXT_PLAIN, text, sizeof text);

    struct timespec ts;
    struct tm tm;
    char when[40];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t w = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + w, sizeof when - w, ".%03dZ", (int)(ts.tv_nsec / 1000000));

    int n = json
                ? snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\",\"message\":\"%s\"}\n",
                           when, names[level], area, text)
                : snprintf(line, sizeof line, "%s %-5s %s: %s\n", when, names[level], area, text);
    if (n > 0) {
        size_t len = ht_min((size_t)n, sizeof line - 1);
        /* A log that cannot be written must not stop the daemon: one try, no more. */
        ssize_t done = write(log_fd, line, len);
        (void)done;
    }
    errno = saved;
}

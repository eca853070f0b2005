/* Secrets from standard input: from a pipe, or from a terminal without echo. */
#include "cli/cli.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

static struct termios shown; /* the terminal as it was */

static void show_again(int signo) {
    tcsetattr(STDIN_FILENO, TCSANOW, &shown);
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(128 + signo);
}

int cli_read_line(char out[WIRE_LIMIT_MAX_TOKEN + 1]) {
    size_t n = 0;
    ssize_t r = 1;
    while (n <= WIRE_LIMIT_MAX_TOKEN && !memchr(out, '\n', n) &&
           (r = read(STDIN_FILENO, out + n, WIRE_LIMIT_MAX_TOKEN + 1 - n)) > 0)
        n += (size_t)r;
    char *end = memchr(out, '\n', n);
    n = end ? (size_t)(end - out) : n;
    while (n > 0 && n <= WIRE_LIMIT_MAX_TOKEN && (out[n - 1] == '\r' || out[n - 1] == ' ' || out[n - 1] == '\t'))
        n--;
    if (r < 0 || n > WIRE_LIMIT_MAX_TOKEN)
        return r < 0 ? HT_EIO : HT_ELIMIT;
    out[n] = '\0';
    return HT_OK;
}

int cli_read_unseen(const char *prompt, char out[WIRE_LIMIT_MAX_TOKEN + 1]) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction act = {.sa_handler = show_again}, stop = {.sa_handler = SIG_IGN}, old[HT_ARRAY_LEN(signals) + 1];
    if (tcgetattr(STDIN_FILENO, &shown) < 0)
        return HT_EIO;
    struct termios unseen = shown;
    unseen.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
    for (size_t i = 0; i < HT_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &act, &old[i]);
    sigaction(SIGTSTP, &stop, &old[HT_ARRAY_LEN(signals)]);
    int rc = tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen) < 0 ? HT_EIO : HT_OK;
    fputs(prompt, stderr); /* after the echo is off: what was typed before was thrown away */
    rc = rc == HT_OK ? cli_read_line(out) : rc;
    tcsetattr(STDIN_FILENO, TCSANOW, &shown);
    fputc('\n', stderr);
    for (size_t i = 0; i < HT_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &old[i], NULL);
    sigaction(SIGTSTP, &old[HT_ARRAY_LEN(signals)], NULL);
    return rc;
}

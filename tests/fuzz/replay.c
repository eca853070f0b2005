/*
 * Runs a fuzz target over files, and over mutations of them that depend on nothing but the file. Any compiler will do.
 *
 *     replay_<unit> [--mutate N] [--save FILE] PATH...      a PATH is a file or a folder of files
 *
 * The last line is "N inputs, M mutations". An input that breaks the target is written to FILE (default: "broken")
 * before the program ends.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST (1u << 20)
#define PATIENCE_S 30 /* for one input */

/* A sanitizer ends the process by itself: it calls this first. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static const char *save_as = "broken";
static const uint8_t *present;
static size_t present_n;
static unsigned long inputs, mutations;

static void save(void) {
    static bool saved;
    FILE *f = saved || !present ? NULL : fopen(save_as, "wb");
    saved = true;
    if (!f)
        return;
    size_t done = fwrite(present, 1, present_n, f);
    fclose(f);
    fprintf(stderr, "the input (%zu bytes) is in %s\n", done, save_as);
}

static void on_signal(int signo) {
    fprintf(stderr, signo == SIGALRM ? "an input takes more than %d s\n" : "signal %d\n",
            signo == SIGALRM ? PATIENCE_S : signo);
    save();
    signal(signo, SIG_DFL);
    raise(signo);
}

static void run(const uint8_t *p, size_t n) {
    uint8_t *copy = fuzz_copy(p, n);
    present = copy;
    present_n = n;
    alarm(PATIENCE_S);
    (void)LLVMFuzzerTestOneInput(copy, n);
    alarm(0);
    present = NULL;
    free(copy);
}

/* ---- mutations ---- */

static size_t remove_some(uint8_t *p, size_t n, uint32_t *seed) {
    size_t at = fuzz_next(seed) % n, some = 1 + fuzz_next(seed) % ht_min(8, n - at);
    memmove(p + at, p + at + some, n - at - some);
    return n - some;
}

/* Copies a run of bytes to another place, pushing what is there back. */
static size_t repeat_some(uint8_t *p, size_t n, uint32_t *seed) {
    uint8_t piece[32];
    size_t from = fuzz_next(seed) % n, to = fuzz_next(seed) % (n + 1);
    size_t some = 1 + fuzz_next(seed) % ht_min(sizeof piece, n - from);
    memcpy(piece, p + from, some);
    memmove(p + to + some, p + to, n - to);
    memcpy(p + to, piece, some);
    return n + some;
}

/* `p` has room for 64 bytes more. */
static size_t mutate(uint8_t *p, size_t n, uint32_t *seed) {
    static const uint8_t odd[] = {0, 1, 9, '\n', '\r', ' ', '"', ',', '/', '0', ':', ';', '\\', 0x7f, 0x80, 0xc0, 0xff};
    if (n == 0)
        return 0;
    size_t at = fuzz_next(seed) % n;
    switch (fuzz_next(seed) % 7) {
    case 0:
        p[at] ^= (uint8_t)(1u << fuzz_next(seed) % 8);
        return n;
    case 1:
        p[at] = (uint8_t)fuzz_next(seed);
        return n;
    case 2:
        p[at] = odd[fuzz_next(seed) % sizeof odd];
        return n;
    case 3:
        p[at] = (uint8_t)(p[at] + 1 - 2 * (fuzz_next(seed) & 1));
        return n;
    case 4:
        return remove_some(p, n, seed);
    case 5:
        return repeat_some(p, n, seed);
    default:
        return at;
    }
}

static void run_mutations(const uint8_t *p, size_t n, unsigned count) {
    uint32_t seed = (uint32_t)fuzz_hash(FUZZ_HASH, p, n);
    uint8_t *room = fuzz_copy(p, n);
    uint8_t *grown = realloc(room, n + 256);
    if (!grown)
        abort();
    for (unsigned i = 0; i < count; i++, mutations++) {
        size_t m = n;
        if (n)
            memcpy(grown, p, n);
        for (uint32_t more = 1 + fuzz_next(&seed) % 4; more > 0; more--)
            m = mutate(grown, m, &seed);
        run(grown, m);
    }
    free(grown);
}

/* ---- files ---- */

static bool run_file(const char *path, unsigned count) {
    static uint8_t bytes[LARGEST];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    run(bytes, n);
    inputs++;
    run_mutations(bytes, n, count);
    return true;
}

static bool run_path(const char *path, unsigned count) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return run_file(path, count);
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort);
    bool ok = n >= 0;
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.')
            ok = run_file(name, count) && ok;
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return ok;
}

int main(int argc, char **argv) {
    unsigned count = 0;
    bool ok = true;
    signal(SIGALRM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(save);
        signal(SIGABRT, on_signal);
    } else {
        static const int bad[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
        for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
            signal(bad[i], on_signal);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc)
            count = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--save") == 0 && i + 1 < argc)
            save_as = argv[++i];
        else
            ok = run_path(argv[i], count) && ok;
    }
    printf("%lu inputs, %lu mutations\n", inputs, mutations);
    return ok && inputs > 0 ? 0 : 1;
}

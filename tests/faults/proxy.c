/*
 * A TCP proxy that breaks what passes through it: fault_proxy --to PORT [--seed N] [--reach BYTES] [--resets 1].
 *
 * Each connection gets a plan, drawn from the seed and the connection's number: where in which direction it is cut and
 * how, and where on the way there its bytes are split into single ones or held back. Both ends are closed, reset or
 * told of an end; or one direction ends, and the other one goes on for a while; or what goes in is lost without a word
 * ("hole"), each direction from a place of its own on; or one end is reset, and the other one (near: who has connected)
 * is left with a connection that takes all and says nothing ("half-open"). With --resets both ends are always reset:
 * where an end in order means that all is there, a proxy must not make one up. It prints
 *
 *     listening on PORT
 *     open NUMBER
 *     cut NUMBER DIRECTION OFFSET HOW
 *
 * and reads commands, one a line, each answered with a line of its own name:
 *
 *     calm     no faults any more, neither on what stands nor on what comes
 *     wild     connections that come get plans again
 *     hold     connections that come are closed at once
 *     take     ... and are taken again
 *     cut      everything that stands is reset
 *     cut N    only connection number N is
 *     freeze   nothing passes any more, nothing is closed: a dead link
 *     thaw     ... and goes on
 *     stall DIRECTION N [K]   on connections that come, but for the first K of them, only N units pass in this
 *              direction (up or down): the HTTP head is the first, each WebSocket frame behind it another one;
 *              "stalled NUMBER DIRECTION" when more has come
 *     flow     what stalled goes on, and nothing stalls any more
 *
 * The end of its input ends it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PAIRS 512
#define BUFFER 65536
#define HALF_CLOSE_MS 200 /* how long a pair with one closed direction may live on */
#define HOLE_MS 150       /* ... and one of which a direction leads nowhere */
#define DEAF_MS 300       /* until an end is told that the other one has been gone for long */
#define TROUBLES 4

enum how { HOW_RESET, HOW_FIN, HOW_RESET_NEAR, HOW_RESET_FAR, HOW_HALF, HOW_HOLE, HOW_OPEN_NEAR, HOW_OPEN_FAR, N_HOW };
static const char *const how_names[N_HOW] = {"reset",      "fin",  "reset-near",     "reset-far",
                                             "half-close", "hole", "half-open-near", "half-open-far"};

enum { UP, DOWN };
static const char *const direction_names[] = {"up", "down"};

/* From `at` on `split` bytes go one by one, or everything waits for `delay_ms`. */
struct trouble {
    uint64_t at;
    unsigned split, delay_ms;
};

/* Where in the HTTP head or in which WebSocket frame (RFC 6455 5.2) the next byte stands. */
struct units {
    bool watched, told;
    unsigned allowed, passed;
    unsigned line_ends; /* of the CRLF CRLF that ends a head */
    uint8_t header[14];
    unsigned have;
    uint64_t left; /* of the frame's payload */
};

struct way {
    int from, to;
    uint8_t buf[BUFFER];
    size_t head, len;
    uint64_t passed, cut_at; /* cut_at UINT64_MAX: not here */
    uint64_t wait_until;
    struct trouble troubles[TROUBLES];
    unsigned split_left;
    struct units units;
    bool ended, shut; /* its source gave its end; its target was told */
    bool told_to_end; /* by a half-close: whatever still comes is dropped */
    bool hole;        /* what goes in never comes out, and nobody is told */
};

struct pair {
    uint64_t number;
    struct way way[2];
    enum how how;
    bool wild, dead;
    uint64_t dies_at; /* 0: not known */
};

static struct pair *pairs[MAX_PAIRS];
static size_t n_pairs;
static uint64_t seed = 1, reach = 512 * 1024, count;
static bool calm, hold, frozen, resets;
static struct units stall[2];
static unsigned spared;
static uint16_t to_port;

static uint64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t n) { return draw(state) % n; }

/* Half of all offsets lie in the first few KiB, where the handshakes and heads are; the rest anywhere within reach. */
static uint64_t offset(uint64_t *state) {
    switch (below(state, 8)) {
    case 0:
        return 1 + below(state, 512);
    case 1:
    case 2:
        return 1 + below(state, 4096);
    case 3:
    case 4:
        return 1 + below(state, reach < 65536 ? reach : 65536);
    default:
        return 1 + below(state, reach);
    }
}

static void plan(struct pair *p) {
    uint64_t state = seed * 0x100000001b3u + p->number;
    draw(&state);
    p->wild = true;
    p->how = resets ? HOW_RESET : (enum how)below(&state, N_HOW);
    p->way[below(&state, 2)].cut_at = offset(&state);
    if (p->how == HOW_HOLE) /* the other direction goes on for a while, up to a place of its own */
        for (int d = UP; d <= DOWN; d++)
            if (p->way[d].cut_at == UINT64_MAX)
                p->way[d].cut_at = p->way[!d].cut_at + offset(&state) % 65536;
    for (int d = UP; d <= DOWN; d++) {
        for (uint64_t i = below(&state, TROUBLES + 1); i-- > 0;) {
            struct trouble *t = &p->way[d].troubles[i];
            t->at = offset(&state);
            if (below(&state, 2))
                t->split = 1 + (unsigned)below(&state, 300);
            else
                t->delay_ms = 1 + (unsigned)below(&state, 12);
        }
    }
}

static void close_one(int fd, bool reset) {
    struct linger rst = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof rst);
    else
        shutdown(fd, SHUT_WR);
    close(fd);
}

static void end_pair(struct pair *p, bool reset_near, bool reset_far) {
    if (p->dead)
        return;
    p->dead = true;
    close_one(p->way[UP].from, reset_near);
    close_one(p->way[UP].to, reset_far);
}

/* Nothing of this direction arrives any more, and its source is not told. */
static void lead_nowhere(struct way *w) {
    w->hole = true;
    w->len = w->head = 0;
}

/* The end that this direction comes from is reset. The other one is not told, may write on, and hears nothing. */
static void leave_open(struct pair *p, int gone) {
    lead_nowhere(&p->way[UP]);
    lead_nowhere(&p->way[DOWN]);
    close_one(p->way[gone].from, true);
    p->way[gone].from = p->way[!gone].to = -1;
    p->dies_at = now_ms() + DEAF_MS;
}

static void cut(struct pair *p, int direction) {
    struct way *w = &p->way[direction];
    if (p->dies_at == 0)
        printf("cut %" PRIu64 " %s %" PRIu64 " %s\n", p->number, direction_names[direction], w->passed,
               how_names[p->how]);
    w->cut_at = UINT64_MAX;
    switch (p->how) {
    case HOW_HALF:
        w->ended = w->told_to_end = true;
        w->len = 0;
        p->dies_at = now_ms() + HALF_CLOSE_MS;
        return;
    case HOW_HOLE:
        lead_nowhere(w);
        p->dies_at = now_ms() + (p->dies_at ? 0 : HOLE_MS);
        return;
    case HOW_OPEN_NEAR:
        leave_open(p, DOWN);
        return;
    case HOW_OPEN_FAR:
        leave_open(p, UP);
        return;
    default:
        break;
    }
    end_pair(p, p->how == HOW_RESET || p->how == HOW_RESET_NEAR, p->how == HOW_RESET || p->how == HOW_RESET_FAR);
}

static void accept_one(int listener) {
    int near = accept(listener, NULL, NULL);
    if (near < 0)
        return;
    struct pair *p = n_pairs < MAX_PAIRS && !hold ? calloc(1, sizeof *p) : NULL;
    int far = p ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (far < 0) {
        free(p);
        close_one(near, true);
        return;
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(to_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    (void)!connect(far, (struct sockaddr *)&a, sizeof a); /* a refusal shows at the first read */
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    p->number = ++count;
    for (int d = UP; d <= DOWN; d++) {
        p->way[d] = (struct way){.from = d == UP ? near : far, .to = d == UP ? far : near, .cut_at = UINT64_MAX};
        if (!spared)
            p->way[d].units = stall[d];
    }
    spared -= spared > 0;
    printf("open %" PRIu64 "\n", p->number);
    if (!calm)
        plan(p);
    pairs[n_pairs++] = p;
}

static void unit_byte(struct units *u, uint8_t byte) {
    if (u->passed == 0) {
        u->line_ends = byte == (u->line_ends % 2 ? '\n' : '\r') ? u->line_ends + 1 : byte == '\r';
        u->passed += u->line_ends == 4;
        return;
    }
    if (u->left) {
        u->left--;
        u->passed += u->left == 0;
        return;
    }
    u->header[u->have++] = byte;
    unsigned length = u->have < 2 ? 0 : u->header[1] & 127, extra = length == 127 ? 8 : length == 126 ? 2 : 0;
    if (u->have < 2 + extra + (u->header[1] & 128 ? 4 : 0))
        return;
    u->left = extra ? 0 : length;
    for (unsigned i = 0; i < extra; i++)
        u->left = u->left << 8 | u->header[2 + i];
    u->passed += u->left == 0;
    u->have = 0;
}

static bool stalled(struct pair *p, int direction) {
    struct units *u = &p->way[direction].units;
    if (!u->watched || u->passed < u->allowed)
        return false;
    if (p->way[direction].len && !u->told) {
        u->told = true;
        printf("stalled %" PRIu64 " %s\n", p->number, direction_names[direction]);
    }
    return true;
}

/* How many bytes may go now: up to the next place where something is planned. */
static size_t allowance(const struct pair *p, struct way *w) {
    uint64_t n = w->len;
    if (w->units.watched)
        return 1;
    if (!p->wild)
        return w->len;
    if (w->cut_at != UINT64_MAX && w->cut_at - w->passed < n)
        n = w->cut_at - w->passed;
    for (int i = 0; i < TROUBLES; i++) {
        struct trouble *t = &w->troubles[i];
        if (t->at > w->passed && t->at - w->passed < n)
            n = t->at - w->passed;
    }
    return w->split_left && n > 1 ? 1 : (size_t)n;
}

static void look_for_trouble(struct way *w) {
    for (int i = 0; i < TROUBLES; i++) {
        struct trouble *t = &w->troubles[i];
        if (t->at == 0 || w->passed < t->at)
            continue;
        t->at = 0;
        w->split_left += t->split;
        if (t->delay_ms)
            w->wait_until = now_ms() + t->delay_ms;
    }
}

static void pass_on(struct pair *p, int direction) {
    struct way *w = &p->way[direction];
    if (w->len) {
        size_t n = allowance(p, w);
        ssize_t sent = send(w->to, w->buf + w->head, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                end_pair(p, true, true);
            return;
        }
        if (w->units.watched && sent)
            unit_byte(&w->units, w->buf[w->head]);
        w->head += (size_t)sent;
        w->len -= (size_t)sent;
        w->head = w->len ? w->head : 0;
        w->passed += (uint64_t)sent;
        w->split_left -= w->split_left && sent ? 1 : 0;
        if (p->wild) {
            look_for_trouble(w);
            if (w->passed >= w->cut_at) {
                cut(p, direction);
                if (p->dead)
                    return;
            }
        }
    }
    if (w->ended && !w->shut && w->len == 0) {
        w->shut = true;
        shutdown(w->to, SHUT_WR);
    }
    if (p->way[UP].shut && p->way[DOWN].shut)
        end_pair(p, false, false);
}

static void take_in(struct pair *p, int direction) {
    struct way *w = &p->way[direction];
    size_t room = BUFFER - w->head - w->len;
    if (room == 0)
        return;
    ssize_t n = recv(w->from, w->buf + w->head + w->len, room, MSG_DONTWAIT);
    if (w->hole) {
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            end_pair(p, true, true);
    } else if (n > 0 && !w->told_to_end)
        w->len += (size_t)n;
    else if (n == 0) {
        w->ended = true;
        w->told_to_end = false;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR)
        end_pair(p, true, true); /* a reset goes on as one */
}

static bool answer(const char *word) {
    if (strcmp(word, "calm") == 0) {
        calm = true;
        for (size_t i = 0; i < n_pairs; i++)
            pairs[i]->wild = false;
    } else if (strcmp(word, "wild") == 0) {
        calm = false;
    } else if (strcmp(word, "hold") == 0) {
        hold = true;
    } else if (strcmp(word, "take") == 0) {
        hold = false;
    } else if (strcmp(word, "freeze") == 0) {
        frozen = true;
    } else if (strcmp(word, "thaw") == 0) {
        frozen = false;
    } else if (strcmp(word, "cut") == 0) {
        for (size_t i = 0; i < n_pairs; i++)
            end_pair(pairs[i], true, true);
    } else if (strncmp(word, "cut ", 4) == 0) {
        uint64_t number = strtoull(word + 4, NULL, 10);
        for (size_t i = 0; i < n_pairs; i++)
            if (pairs[i]->number == number)
                end_pair(pairs[i], true, true);
    } else if (strcmp(word, "flow") == 0) {
        stall[UP].watched = stall[DOWN].watched = false;
        for (size_t i = 0; i < n_pairs; i++)
            pairs[i]->way[UP].units.watched = pairs[i]->way[DOWN].units.watched = false;
    } else if (strncmp(word, "stall up ", 9) == 0 || strncmp(word, "stall down ", 11) == 0) {
        bool up = word[6] == 'u';
        char *end;
        stall[up ? UP : DOWN] =
            (struct units){.watched = true, .allowed = (unsigned)strtoul(word + (up ? 9 : 11), &end, 10)};
        spared = (unsigned)strtoul(end, NULL, 10);
    } else {
        fprintf(stderr, "fault_proxy: what is %s?\n", word);
        return false;
    }
    printf("%s\n", word);
    return true;
}

/* False: the input has ended, or could not be understood. */
static bool commands(void) {
    static char line[64];
    static size_t n;
    ssize_t got = read(STDIN_FILENO, line + n, sizeof line - 1 - n);
    if (got <= 0)
        return false;
    n += (size_t)got;
    line[n] = '\0';
    for (char *end; (end = strchr(line, '\n'));) {
        *end = '\0';
        if (!answer(line))
            return false;
        n -= (size_t)(end + 1 - line);
        memmove(line, end + 1, n + 1);
    }
    return n < sizeof line - 1;
}

static void forget_dead(void) {
    uint64_t now = now_ms();
    for (size_t i = 0; i < n_pairs;) {
        if (pairs[i]->dies_at && now >= pairs[i]->dies_at)
            end_pair(pairs[i], true, true);
        if (pairs[i]->dead) {
            free(pairs[i]);
            pairs[i] = pairs[--n_pairs];
        } else {
            i++;
        }
    }
}

/* One wait for everybody and one step for whoever can make it. */
static bool turn(int listener) {
    static struct pollfd p[2 + 2 * MAX_PAIRS];
    uint64_t now = now_ms(), wake = now + 1000;
    forget_dead();
    p[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    p[1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (size_t i = 0; i < n_pairs; i++) {
        struct pollfd *two = &p[2 + 2 * i]; /* the near end and the far one */
        two[0] = (struct pollfd){.fd = pairs[i]->way[UP].from};
        two[1] = (struct pollfd){.fd = pairs[i]->way[UP].to};
        if (pairs[i]->dies_at && pairs[i]->dies_at < wake)
            wake = pairs[i]->dies_at;
        for (int d = UP; d <= DOWN; d++) {
            struct way *w = &pairs[i]->way[d];
            bool waits = frozen || w->wait_until > now, holds = stalled(pairs[i], d);
            if (w->wait_until > now && w->wait_until < wake)
                wake = w->wait_until;
            if (!waits && (!w->ended || w->told_to_end) && w->head + w->len < BUFFER)
                two[d].events |= POLLIN;
            if (!waits && !holds && (w->len || (w->ended && !w->shut)))
                two[!d].events |= POLLOUT;
            if (w->wait_until <= now)
                w->wait_until = 0;
        }
        for (int e = 0; e < 2; e++)
            if (two[e].events == 0)
                two[e].fd = -1; /* or a hang-up would be told again and again */
    }
    size_t n = n_pairs;
    if (poll(p, 2 + 2 * n, (int)(wake > now ? wake - now : 0)) < 0)
        return errno == EINTR;
    for (size_t i = 0; i < n; i++) {
        for (int d = UP; d <= DOWN; d++) {
            if (!pairs[i]->dead && p[2 + 2 * i + (size_t)d].revents && (p[2 + 2 * i + (size_t)d].events & POLLIN))
                take_in(pairs[i], d);
            if (!pairs[i]->dead && p[2 + 2 * i + (size_t)!d].revents && (p[2 + 2 * i + (size_t)!d].events & POLLOUT))
                pass_on(pairs[i], d);
        }
    }
    if (p[0].revents)
        accept_one(listener);
    return !p[1].revents || commands();
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--to") == 0)
            to_port = (uint16_t)value;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = value;
        else if (strcmp(argv[i], "--reach") == 0 && value > 0)
            reach = value;
        else if (strcmp(argv[i], "--resets") == 0)
            resets = value;
    }
    if (to_port == 0) {
        fprintf(stderr, "usage: fault_proxy --to PORT [--seed N] [--reach BYTES] [--resets 1]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0) {
        perror("fault_proxy");
        return 1;
    }
    printf("listening on %u\n", ntohs(a.sin_port));
    while (turn(listener))
        continue;
    calm = true;
    while (n_pairs) {
        end_pair(pairs[0], true, true);
        forget_dead();
    }
    close(listener);
    return 0;
}

/* The other end of the load client's benchmark: a broadcaster and application as fast as one core allows, and a bare receiver.

     gcc -O2 -o fanout_peer fanout_peer.c
     fanout_peer serve PORT            a server on 127.0.0.1; commands on stdin, one JSON line each on stdout
     fanout_peer receive PORT N        N subscribers that read and throw away: the limit of any receiver

   Commands of the server:
     burst HZ SECONDS      one broadcast to every subscriber, HZ times a second: the same bytes to each
     stamped HZ SECONDS    the same, but `sent_at` is written into each frame just before its send
     spread RATE SECONDS   RATE frames a second, one subscriber after the other, each with its own `sent_at`; `late_ms`: the most
                           that one left after it was due
     stat                  counts so far
     quit

   One thread, epoll, no queue: a subscriber whose socket is full loses frames, and `lost` says so. Times are CLOCK_REALTIME ns. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 70000
#define ROOM 4096

typedef struct {
    uint8_t data[ROOM];
    int used, upgraded, place; /* place in the list of subscribers, or -1 */
} Peer;

static Peer *peers[MAX_DESCRIPTORS];
static int subscribers[MAX_DESCRIPTORS], subscribed, opened, poller;
static int64_t sent, lost, requests, authorised, serial;
static char channel[200] = "private-servers";

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- SHA-1 and Base64 of the handshake (RFC 6455 4.2.2); messages of one or two blocks */

static void sha1(const uint8_t *text, size_t length, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    uint8_t block[128] = {0};
    size_t total = length + 9 <= 64 ? 64 : 128;
    memcpy(block, text, length);
    block[length] = 0x80;
    for (int i = 0; i < 8; i++) block[total - 1 - i] = (uint8_t)((uint64_t)length * 8 >> 8 * i);
#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
    for (size_t at = 0; at < total; at += 64) {
        for (int i = 0; i < 16; i++) {
            const uint8_t *b = block + at + 4 * i;
            w[i] = (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
        }
        for (int i = 16; i < 80; i++) w[i] = ROTATE(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t next = ROTATE(a, 5) + f + e + k + w[i];
            e = d, d = c, c = ROTATE(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, int length, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < length; i += 3) {
        uint32_t v = data[i] << 16 | (i + 1 < length ? data[i + 1] << 8 : 0) | (i + 2 < length ? data[i + 2] : 0);
        *out++ = digits[v >> 18 & 63];
        *out++ = digits[v >> 12 & 63];
        *out++ = i + 1 < length ? digits[v >> 6 & 63] : '=';
        *out++ = i + 2 < length ? digits[v & 63] : '=';
    }
    *out = 0;
}

/* ---- frames */

static int frame(uint8_t *out, int first, const char *text, int length) {
    int head = 2;
    out[0] = (uint8_t)first;
    if (length < 126) out[1] = (uint8_t)length;
    else out[1] = 126, out[2] = (uint8_t)(length >> 8), out[3] = (uint8_t)length, head = 4;
    memcpy(out + head, text, length);
    return head + length;
}

static void put(int fd, const void *data, int length) {
    if (send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) != length) lost++;
}

static void say(int fd, const char *text) {
    uint8_t out[1024];
    put(fd, out, frame(out, 0x81, text, (int)strlen(text)));
}

static uint8_t event[1024];
static int event_length;
static uint8_t *sent_at; /* nineteen digits within `event` */

static void digits19(uint8_t *at, int64_t value) {
    for (int i = 18; i >= 0; i--, value /= 10) at[i] = '0' + value % 10;
}

static void make_event(void) {
    char text[700];
    int64_t t = now();
    int length = snprintf(text, sizeof text,
        "{\"event\":\"App\\\\Events\\\\ServerUpdated\",\"data\":\"{\\\"server_id\\\":5,\\\"update\\\":%ld,"
        "\\\"sent_at\\\":%019ld,\\\"published_at\\\":%019ld}\",\"channel\":\"%s\"}", serial++, t, t, channel);
    event_length = frame(event, 0x81, text, length);
    sent_at = (uint8_t *)memmem(event, event_length, "sent_at\\\":", 10) + 10;
}

/* ---- one connection */

static void forget(int fd) {
    Peer *peer = peers[fd];
    if (peer->place >= 0) {
        int last = subscribers[--subscribed];
        subscribers[peer->place] = last;
        peers[last]->place = peer->place;
    }
    opened -= peer->upgraded;
    free(peer);
    peers[fd] = NULL;
    close(fd);
}

static void answer(int fd, const char *body) {
    char out[1024];
    int length = snprintf(out, sizeof out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    put(fd, out, length);
}

static int http(int fd, Peer *peer) {
    for (;;) {
        peer->data[peer->used] = 0;
        char *text = (char *)peer->data, *end = strstr(text, "\r\n\r\n");
        if (!end) return 0;
        char *length = strcasestr(text, "content-length:");
        int size = (int)(end - text) + 4 + (length && length < end ? atoi(length + 15) : 0);
        if (peer->used < size) return 0;
        if (!strncmp(text, "GET /app/", 9)) {
            char *key = strcasestr(text, "sec-websocket-key:"), joined[100], out[300];
            uint8_t digest[20];
            if (!key) return -1;
            key += 18 + strspn(key + 18, " ");
            int n = snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
            sha1((uint8_t *)joined, n, digest);
            base64(digest, 20, joined);
            n = snprintf(out, sizeof out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                          "Sec-WebSocket-Accept: %s\r\n\r\n", joined);
            put(fd, out, n);
            peer->upgraded = 1, opened++;
            snprintf(out, sizeof out, "{\"event\":\"pusher:connection_established\",\"data\":\"{\\\"socket_id\\\":"
                                      "\\\"1.%d\\\",\\\"activity_timeout\\\":30}\"}", fd);
            say(fd, out);
        } else if (!strncmp(text, "POST ", 5)) {
            authorised++;
            answer(fd, "{\"auth\":\"app-key:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}");
        } else {
            char body[400];
            requests++;
            snprintf(body, sizeof body, "{\"id\":5,\"version\":%ld,\"name\":\"web-5\",\"status\":\"provisioning\",\"steps\":"
                "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40]"
                ",\"updated_at\":\"2026-01-01T00:00:00.000000Z\"}", serial);
            answer(fd, body);
        }
        memmove(peer->data, peer->data + size, peer->used -= size);
        if (peer->upgraded) return 0;
    }
}

static void subscribe(int fd, Peer *peer, const char *text) {
    char out[400];
    const char *name = strstr(text, "\"channel\":");
    if (name && (name = strchr(name + 10, '"'))) snprintf(channel, sizeof channel, "%.*s", (int)strcspn(name + 1, "\""), name + 1);
    snprintf(out, sizeof out, "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\",\"channel\":\"%s\"}", channel);
    say(fd, out);
    if (peer->place < 0) peer->place = subscribed, subscribers[subscribed++] = fd;
}

static int websocket(int fd, Peer *peer) {
    int at = 0;
    while (peer->used - at >= 6) {
        uint8_t *f = peer->data + at;
        int length = f[1] & 127, head = length == 126 ? 8 : 6, operation = f[0] & 15;
        if (length == 126) length = f[2] << 8 | f[3];
        if (peer->used - at < head + length) break;
        for (int i = 0; i < length; i++) f[head + i] ^= f[head - 4 + (i & 3)];
        char text[ROOM];
        snprintf(text, sizeof text, "%.*s", length, (char *)f + head);
        if (operation == 8) return -1;
        if (operation == 1 && strstr(text, "pusher:subscribe")) subscribe(fd, peer, text);
        else if (operation == 1 && strstr(text, "pusher:ping")) say(fd, "{\"event\":\"pusher:pong\"}");
        at += head + length;
    }
    memmove(peer->data, peer->data + at, peer->used -= at);
    return 0;
}

static int readable(int fd) {
    Peer *peer = peers[fd];
    ssize_t n = recv(fd, peer->data + peer->used, ROOM - 1 - peer->used, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    peer->used += (int)n;
    if (!peer->upgraded && http(fd, peer) < 0) return -1;
    return peer->upgraded ? websocket(fd, peer) : 0;
}

static void watch(int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static void accept_all(int listener) {
    int one = 1;
    for (int i = 0; i < 256; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) return;
        if (fd >= MAX_DESCRIPTORS) { close(fd); return; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        peers[fd] = calloc(1, sizeof(Peer));
        peers[fd]->place = -1;
        watch(fd);
    }
}

/* ---- load */

enum { IDLE, BURST, STAMPED, SPREAD };
static int mode, turn;
static double rate, seconds, cpu_before;
static int64_t began, done, sent_before, longest;

static void start_load(int what) {
    mode = what, began = now(), done = 0, longest = 0, sent_before = sent, cpu_before = cpu_seconds();
}

static void go_on(void) {
    int64_t t = now();
    double elapsed = (t - began) / 1e9;
    if (elapsed >= seconds || !subscribed) {
        printf("{\"done\":true,\"sent\":%ld,\"lost\":%ld,\"cpu\":%.6f,\"%s\":%.3f}\n", sent - sent_before, lost,
               cpu_seconds() - cpu_before, mode == SPREAD ? "late_ms" : "longest_fanout_ms", longest / 1e6);
        mode = IDLE;
        return;
    }
    int64_t due = (int64_t)(elapsed * rate) + (mode != SPREAD);
    if (mode == SPREAD) {
        for (int i = 0; i < 64 && done < due; i++, done++, sent++) {
            if (turn >= subscribed) turn = 0, make_event();
            int64_t at = now(), late = at - began - (int64_t)(done / rate * 1e9);
            if (late > longest) longest = late;
            digits19(sent_at, at);
            put(subscribers[turn++], event, event_length);
        }
    } else if (done < due) {
        make_event();
        for (int i = 0; i < subscribed; i++, sent++) {
            if (mode == STAMPED) digits19(sent_at, now());
            put(subscribers[i], event, event_length);
        }
        done++;
        if (now() - t > longest) longest = now() - t;
    }
}

static int command(void) {
    char line[200];
    ssize_t n = read(0, line, sizeof line - 1);
    if (n <= 0) return -1;
    line[n] = 0;
    if (sscanf(line, "burst %lf %lf", &rate, &seconds) == 2) start_load(BURST);
    else if (sscanf(line, "stamped %lf %lf", &rate, &seconds) == 2) start_load(STAMPED);
    else if (sscanf(line, "spread %lf %lf", &rate, &seconds) == 2) { make_event(); start_load(SPREAD); }
    else if (!strncmp(line, "quit", 4)) return -1;
    else printf("{\"open\":%d,\"subscribed\":%d,\"sent\":%ld,\"lost\":%ld,\"requests\":%ld,\"authorised\":%ld,\"cpu\":%.6f}\n",
                opened, subscribed, sent, lost, requests, authorised, cpu_seconds());
    return 0;
}

static int serve(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, size) || listen(listener, 4096)) { perror("bind"); return 1; }
    getsockname(listener, (void *)&address, &size);
    watch(listener);
    watch(0);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, mode == IDLE ? -1 : mode == SPREAD ? 0 : 1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(fd);
            else if (fd == 0) { if (command() < 0) return 0; }
            else if (readable(fd) < 0) forget(fd);
        }
        if (mode != IDLE) go_on();
    }
}

/* ---- the bare receiver: connects one after the other, then reads whatever comes and says every second what it has */

static int masked(uint8_t *out, const char *text) {
    int length = (int)strlen(text), head = length < 126 ? 2 : 4;
    out[0] = 0x81;
    if (length < 126) out[1] = 0x80 | length;
    else out[1] = 0x80 | 126, out[2] = length >> 8, out[3] = length;
    memset(out + head, 0, 4); /* a mask of zeros masks nothing */
    memcpy(out + head + 4, text, length);
    return head + 4 + length;
}

static int receive(int port, int count) {
    static const char upgrade[] = "GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint8_t data[65536];
    int64_t messages = 0, said = 0;
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&address, sizeof address)) { perror("connect"); return 1; }
        put(fd, upgrade, sizeof upgrade - 1);
        uint8_t out[300];
        put(fd, out, masked(out, "{\"event\":\"pusher:subscribe\",\"data\":{\"auth\":\"\",\"channel\":\"private-servers\"}}"));
        watch(fd);
    }
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++)
            if (recv(events[i].data.fd, data, sizeof data, MSG_DONTWAIT) > 0) messages++;
            else { close(events[i].data.fd); if (!--count) return 0; }
        if (now() - said > 500000000) {
            said = now();
            printf("{\"reads\":%ld}\n", messages);
        }
    }
}

int main(int argc, char **argv) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    poller = epoll_create1(0);
    if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
    if (argc == 4 && !strcmp(argv[1], "receive")) return receive(atoi(argv[2]), atoi(argv[3]));
    fprintf(stderr, "usage: %s serve PORT | receive PORT N\n", argv[0]);
    return 2;
}

// Load client of the fan-out benchmark: N WebSocket subscribers in one epoll loop that never sleeps. It counts frames and takes
// times, nothing else, so that what it measures is the server.
//
//     gcc -O2 -o fanout_client fanout_client.c
//     ./fanout_client PORT SUBSCRIBERS SERVER_PIDS PATH KEY SECRET CHANNEL PUBLISH_FILE PHASE...
//
// KEY "-" : the path subscribes by itself; else each connection reads its socket id and subscribes with a signature (Pusher).
// PUBLISH_FILE holds the bytes of one publish: a whole HTTP request, sent over keep-alive connections of their own, or (when it
// begins with 0x81) a masked WebSocket frame, sent on a WebSocket opened at /publish.
//
//     sat:W:SECONDS     W publishes in flight (the next when all subscribers have one): deliveries/s, server CPU per delivery
//     share:W:SECONDS   the same, but this client sleeps when nothing comes: for servers that want its core as well
//     rate:R:SECONDS    R publishes per second, open loop, while this client sleeps when nothing comes: the cost below saturation
//     one:K             K publishes, one at a time: first and last receiver, and the delay of all deliveries
//     stall:K           from now on K of the subscribers do not read
//     ping:SECONDS      one event to all after the other, meanwhile pings on a connection of its own
//     http:W:SECONDS    publishes answered per second with W connections, whoever receives them
//     sleep:SECONDS     nothing; the server's CPU
//
// One line of JSON for the connecting and for each phase. Microseconds unless the name says otherwise.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, MAX_SAMPLES = 1 << 20, MAX_PUBLISHERS = 64, CONNECTING_AT_ONCE = 256 };

typedef struct {
  int fd;
  enum { CONNECTING, SHAKING, SUBSCRIBING, OPEN } state;
  int length;         // of `head`
  char head[1024];    // until it is open
  uint64_t bytes;     // since it is open
  uint64_t received;  // whole events
} subscriber;

static subscriber *all;
static int subscribers, port, opened, publishers[MAX_PUBLISHERS], publisher_count, pinger = -1, poll_fd;
static const char *path, *key, *secret, *channel;
static char buffer[BUFFER], publish_bytes[BUFFER];
static int publish_size, event_size, pids[64], pid_count;
static uint64_t events_received, first_at, last_at, answers;
static double samples[MAX_SAMPLES], delays[MAX_SAMPLES];
static int delay_count, sleep_ms;
static uint64_t published_at;  // delays are taken while it is set

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t server_cpu(void) {
  uint64_t total = 0;
  for (int i = 0; i < pid_count; i++) {
    clockid_t clock;
    struct timespec t;
    if (!clock_getcpuclockid(pids[i], &clock) && !clock_gettime(clock, &t)) total += t.tv_sec * 1000000000ull + t.tv_nsec;
  }
  return total;
}

static double server_kib(void) {
  double total = 0;
  for (int i = 0; i < pid_count; i++) {
    char name[64];
    long size = 0, resident = 0;
    snprintf(name, sizeof name, "/proc/%d/statm", pids[i]);
    FILE *file = fopen(name, "r");
    if (!file) continue;
    if (fscanf(file, "%ld %ld", &size, &resident) == 2) total += resident * (sysconf(_SC_PAGESIZE) / 1024.0);
    fclose(file);
  }
  return total;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(double *values, int n, double q) { return n ? values[(int)(q * (n - 1) + 0.5)] : -1; }

// ---- SHA-256 and HMAC, for subscriptions (FIPS 180-4, RFC 2104)

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void block(uint32_t *h, const unsigned char *p) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++)
    w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
           (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t a = s[0], e = s[4];
    uint32_t t1 = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + ROUND[i] + w[i];
    uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += t1;
    s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void sha256(const unsigned char *data, size_t size, unsigned char *digest) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char tail[128] = {0};
  size_t whole = size / 64 * 64, rest = size - whole, padded = rest < 56 ? 64 : 128;
  for (size_t i = 0; i < whole; i += 64) block(h, data + i);
  memcpy(tail, data + whole, rest);
  tail[rest] = 0x80;
  for (int i = 0; i < 8; i++) tail[padded - 1 - i] = (unsigned char)((uint64_t)size * 8 >> 8 * i);
  for (size_t i = 0; i < padded; i += 64) block(h, tail + i);
  for (int i = 0; i < 32; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void hmac_hex(const char *text, char *hex) {
  unsigned char inner[64 + 512], outer[64 + 32];
  size_t size = strlen(text), keyed = strlen(secret);
  memset(inner, 0x36, 64);
  memset(outer, 0x5c, 64);
  for (size_t i = 0; i < keyed; i++) inner[i] ^= secret[i], outer[i] ^= secret[i];
  memcpy(inner + 64, text, size);
  sha256(inner, 64 + size, outer + 64);
  unsigned char digest[32];
  sha256(outer, sizeof outer, digest);
  for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}

// ---- sockets

static int dial(int blocking) {
  int one = 1, fd = socket(AF_INET, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (fd < 0) die("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&address, sizeof address) && blocking) die("connect");
  return fd;
}

static int send_text(int fd, int opcode, const char *text, int size) {
  unsigned char frame[1024];
  int head = 2;
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (size < 126 ? size : 126);
  if (size >= 126) frame[2] = size >> 8, frame[3] = size, head = 4;
  memset(frame + head, 0, 4);  // a mask of zeros leaves the payload readable
  memcpy(frame + head + 4, text, size);
  return send(fd, frame, head + 4 + size, MSG_NOSIGNAL) == head + 4 + size;
}

static void handshake(int fd, const char *at) {
  char request[512];
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                      at, port);
  if (send(fd, request, size, MSG_NOSIGNAL) != size) die("handshake");
}

static void subscribe(subscriber *s, const char *socket_id) {
  char text[256], hex[65], message[512];
  snprintf(text, sizeof text, "%.*s:%s", (int)strspn(socket_id, "0123456789."), socket_id, channel);
  hmac_hex(text, hex);
  int size = snprintf(message, sizeof message, "{\"event\":\"pusher:subscribe\",\"data\":{\"auth\":\"%s:%s\",\"channel\":\"%s\"}}", key, hex,
                      channel);
  if (!send_text(s->fd, 1, message, size)) die("subscribe");
  s->state = SUBSCRIBING;
  s->length = 0;
}

static void connect_one(int i) {
  subscriber *s = &all[i];
  s->fd = dial(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, s->fd, &event);
}

// Advance a subscriber that is not open yet.
static void shake(subscriber *s, uint32_t what) {
  if (s->state == CONNECTING && what & EPOLLOUT) {
    handshake(s->fd, path);
    s->state = SHAKING;
  }
  int got = recv(s->fd, s->head + s->length, sizeof s->head - 1 - s->length, MSG_DONTWAIT);
  if (got == 0) {
    fprintf(stderr, "closed by the server after %d connections\n", opened);
    exit(1);
  }
  if (got < 0) return;
  s->length += got;
  s->head[s->length] = 0;
  char *body = memmem(s->head, s->length, "\r\n\r\n", 4);
  int ready = 0;
  if (s->state == SHAKING && body && key[0] == '-') ready = 1;
  if (s->state == SHAKING && body && key[0] != '-') {
    char *id = memmem(body, s->length - (body - s->head), "socket_id\\\":\\\"", 14);
    if (id) subscribe(s, id + 14);
  } else if (s->state == SUBSCRIBING && memmem(s->head, s->length, "subscription_succeeded", 22)) {
    ready = 1;
  }
  if (!ready) return;
  s->state = OPEN;
  opened++;
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = s - all};
  epoll_ctl(poll_fd, EPOLL_CTL_MOD, s->fd, &event);
}

static int frame_size(const unsigned char *p) {
  int size = p[1] & 127;
  return size < 126 ? 2 + size : 4 + (p[2] << 8 | p[3]);
}

// Take what has arrived; returns the events completed now.
static int turn(void) {
  static struct epoll_event events[1024];
  int ready = epoll_wait(poll_fd, events, 1024, sleep_ms), completed = 0;
  for (int i = 0; i < ready; i++) {
    subscriber *s = &all[events[i].data.u32];
    if (s->state != OPEN) {
      shake(s, events[i].events);
      continue;
    }
    for (;;) {
      int got = recv(s->fd, buffer, BUFFER, MSG_DONTWAIT);
      if (got == 0) {
        fprintf(stderr, "a subscriber was closed by the server\n");
        exit(1);
      }
      if (got < 0) break;
      if (!event_size) event_size = frame_size((unsigned char *)buffer);
      s->bytes += got;
      uint64_t whole = s->bytes / event_size;
      completed += whole - s->received;
      s->received = whole;
      if (got < BUFFER) break;
    }
  }
  if (completed) {
    last_at = now();
    if (!first_at) first_at = last_at;
    events_received += completed;
    for (int i = 0; published_at && i < completed && delay_count < MAX_SAMPLES; i++) delays[delay_count++] = (last_at - published_at) / 1e3;
  }
  return completed;
}

static void publish(int which) {
  int fd = publishers[which % publisher_count];
  if (send(fd, publish_bytes, publish_size, MSG_NOSIGNAL) != publish_size) die("publish");
  // Answers of earlier publishes are read away.
  if (recv(fd, buffer, BUFFER, MSG_DONTWAIT) > 0) answers++;
}

static void dial_publishers(int n) {
  while (publisher_count < n) {
    int fd = dial(1);
    if ((unsigned char)publish_bytes[0] == 0x81) {
      handshake(fd, "/publish");
      if (recv(fd, buffer, BUFFER, 0) <= 0) die("publisher");
    }
    publishers[publisher_count++] = fd;
  }
}

static void wait_for(uint64_t target) {
  uint64_t limit = now() + 20000000000ull;
  while (events_received < target) {
    turn();
    if (now() > limit) {
      fprintf(stderr, "stalled: %lu of %lu events\n", events_received, target);
      exit(1);
    }
  }
}

// ---- phases

static void saturate(int window, double seconds, int sleeping) {
  dial_publishers(window);
  sleep_ms = sleeping;
  uint64_t base = events_received, begin = now(), end = begin + (uint64_t)(seconds * 1e9), cpu = server_cpu();
  uint64_t sent = 0, done = 0;
  while (now() < end || done < sent) {
    while (now() < end && sent - done < (uint64_t)window) publish(sent++);
    turn();
    done = (events_received - base) / subscribers;
    if (now() > end + 20000000000ull) die("stalled");
  }
  sleep_ms = 0;
  double elapsed = (now() - begin) / 1e9;
  uint64_t deliveries = events_received - base;
  printf("{\"phase\": \"%s\", \"in_flight\": %d, \"deliveries_per_s\": %.0f, \"cpu\": %.4f, \"busy\": %.3f, \"event_bytes\": %d}\n", sleeping ? "share" : "sat", window,
         deliveries / elapsed, (server_cpu() - cpu) / 1e3 / deliveries, (server_cpu() - cpu) / 1e9 / elapsed, event_size);
}

// Events at a fixed rate, open loop: what a delivery costs a server that is not full, and how much of the rate it keeps up with.
static void at_rate(double rate, double seconds) {
  dial_publishers(16);
  sleep_ms = 1;
  uint64_t base = events_received, begin = now(), end = begin + (uint64_t)(seconds * 1e9), cpu = server_cpu(), sent = 0;
  while (now() < end) {
    while (now() >= begin + (uint64_t)(sent * 1e9 / rate)) publish(sent++);
    turn();
  }
  double elapsed = (now() - begin) / 1e9, used = server_cpu() - cpu;
  uint64_t deliveries = events_received - base;
  sleep_ms = 0;
  wait_for(base + sent * subscribers);
  printf("{\"phase\": \"rate\", \"events_per_s\": %.3f, \"deliveries_per_s\": %.0f, \"cpu\": %.4f, \"busy\": %.4f, \"event_bytes\": %d}\n",
         sent / elapsed, deliveries / elapsed, used / 1e3 / deliveries, used / 1e9 / elapsed, event_size);
}

static void one_at_a_time(int k) {
  static double lasts[MAX_SAMPLES], spreads[MAX_SAMPLES];
  dial_publishers(1);
  for (int i = 0; i < k; i++) {
    for (uint64_t pause = now() + 3000000; now() < pause;) turn();
    first_at = 0;
    uint64_t base = events_received, begin = published_at = now();
    publish(0);
    wait_for(base + subscribers);
    published_at = 0;
    samples[i] = (first_at - begin) / 1e3;
    lasts[i] = (last_at - begin) / 1e3;
    spreads[i] = (last_at - first_at) / 1e3;
  }
  qsort(samples, k, sizeof *samples, ascending);
  qsort(lasts, k, sizeof *lasts, ascending);
  qsort(spreads, k, sizeof *spreads, ascending);
  qsort(delays, delay_count, sizeof *delays, ascending);
  printf("{\"phase\": \"one\", \"first_p50\": %.0f, \"first_p99\": %.0f, \"last_p50\": %.0f, \"last_p99\": %.0f, \"spread_p50\": %.0f, "
         "\"delay_p50\": %.0f, \"delay_p99\": %.0f}\n",
         quantile(samples, k, .5), quantile(samples, k, .99), quantile(lasts, k, .5), quantile(lasts, k, .99), quantile(spreads, k, .5),
         quantile(delays, delay_count, .5), quantile(delays, delay_count, .99));
  delay_count = 0;
}

static void stall(int k) {
  int small = 4096;
  for (int i = 0; i < k; i++) {
    subscriber *s = &all[--subscribers];
    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    epoll_ctl(poll_fd, EPOLL_CTL_DEL, s->fd, NULL);
  }
}

static void ping_while_busy(double seconds) {
  dial_publishers(1);
  if (pinger < 0) {
    // It subscribes to nothing (Pusher), or takes part in the events and reads them away (bare servers).
    pinger = dial(1);
    handshake(pinger, path);
    usleep(100000);
    recv(pinger, buffer, BUFFER, MSG_DONTWAIT);
  }
  uint64_t end = now() + (uint64_t)(seconds * 1e9), base = events_received, sent = 0, asked = 0;
  int n = 0;
  while (now() < end) {
    if ((events_received - base) / subscribers >= sent) publish(0), sent++;
    if (!asked) {
      asked = now();
      send_text(pinger, 9, "now", 3);
    }
    turn();
    int got = recv(pinger, buffer, BUFFER, MSG_DONTWAIT);
    if (got > 0 && memmem(buffer, got, "\x8a\x03now", 5)) {
      if (n < MAX_SAMPLES) samples[n++] = (now() - asked) / 1e3;
      asked = 0;
    }
  }
  wait_for(base + sent * subscribers);
  qsort(samples, n, sizeof *samples, ascending);
  printf("{\"phase\": \"ping\", \"p50\": %.0f, \"p99\": %.0f, \"max\": %.0f, \"n\": %d, \"events\": %lu}\n", quantile(samples, n, .5),
         quantile(samples, n, .99), quantile(samples, n, 1), n, sent);
}

static void http_publishes(int window, double seconds) {
  dial_publishers(window);
  int answered_size = 0;
  for (int i = 0; i < publisher_count; i++) recv(publishers[i], buffer, BUFFER, MSG_DONTWAIT);
  uint64_t begin = now(), end = begin + (uint64_t)(seconds * 1e9), done = 0, cpu = server_cpu();
  for (int i = 0; i < window; i++)
    if (send(publishers[i], publish_bytes, publish_size, MSG_NOSIGNAL) != publish_size) die("publish");
  while (now() < end) {
    turn();
    for (int i = 0; i < window; i++) {
      int got = recv(publishers[i], buffer, BUFFER, MSG_DONTWAIT);
      if (got <= 0) continue;
      if (memcmp(buffer, "HTTP/1.1 200", 12)) {
        fprintf(stderr, "%.*s\n", got, buffer);
        exit(1);
      }
      answered_size = got;
      done++;
      if (send(publishers[i], publish_bytes, publish_size, MSG_NOSIGNAL) != publish_size) die("publish");
    }
  }
  double elapsed = (now() - begin) / 1e9;
  printf("{\"phase\": \"http\", \"connections\": %d, \"publishes_per_s\": %.0f, \"cpu\": %.2f, \"answer_bytes\": %d}\n", window, done / elapsed,
         (server_cpu() - cpu) / 1e3 / done, answered_size);
}

static void connect_all(void) {
  double kib = server_kib();
  uint64_t begin = now(), cpu = server_cpu();
  int started = 0;
  while (opened < subscribers) {
    while (started < subscribers && started - opened < CONNECTING_AT_ONCE) connect_one(started++);
    turn();
    if (now() - begin > 60000000000ull) die("connecting");
  }
  double elapsed = (now() - begin) / 1e9, each = subscribers ? (server_cpu() - cpu) / 1e3 / subscribers : 0;
  usleep(300000);
  printf("{\"phase\": \"connect\", \"subscribers\": %d, \"per_s\": %.0f, \"cpu\": %.1f, \"kib_each\": %.2f}\n", subscribers,
         subscribers / elapsed, each, subscribers ? (server_kib() - kib) / subscribers : 0);
}

int main(int argc, char **argv) {
  if (argc < 9) return 2;
  port = atoi(argv[1]), subscribers = atoi(argv[2]);
  for (char *pid = strtok(argv[3], ","); pid; pid = strtok(NULL, ",")) pids[pid_count++] = atoi(pid);
  path = argv[4], key = argv[5], secret = argv[6], channel = argv[7];
  FILE *file = fopen(argv[8], "rb");
  if (!file) die(argv[8]);
  publish_size = fread(publish_bytes, 1, BUFFER, file);
  fclose(file);
  setlinebuf(stdout);
  all = calloc(subscribers + 1, sizeof *all);
  poll_fd = epoll_create1(0);
  connect_all();
  for (int i = 9; i < argc; i++) {
    int window;
    double seconds, rate;
    if (sscanf(argv[i], "sat:%d:%lf", &window, &seconds) == 2) saturate(window, seconds, 0);
    else if (sscanf(argv[i], "rate:%lf:%lf", &rate, &seconds) == 2) at_rate(rate, seconds);
    else if (sscanf(argv[i], "share:%d:%lf", &window, &seconds) == 2) saturate(window, seconds, 1);
    else if (sscanf(argv[i], "stall:%d", &window) == 1) stall(window);
    else if (sscanf(argv[i], "http:%d:%lf", &window, &seconds) == 2) http_publishes(window, seconds);
    else if (sscanf(argv[i], "one:%d", &window) == 1) one_at_a_time(window);
    else if (sscanf(argv[i], "ping:%lf", &seconds) == 1) ping_while_busy(seconds);
    else if (sscanf(argv[i], "sleep:%lf", &seconds) == 1) usleep((useconds_t)(seconds * 1e6));
    else return 2;
  }
  struct linger reset = {1, 0};  // no TIME_WAIT left for the next run
  for (int i = 0; i < subscribers; i++) setsockopt(all[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), close(all[i].fd);
  return 0;
}

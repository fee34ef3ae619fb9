/* A disk and a clock that fail when told to: LD_PRELOAD it into a program that does its I/O through libc.
 *
 * It sees every call on a file below FAULTS_FOLDER (but for -shm files, which are memory), numbers the calls of the
 * kinds asked for, and does FAULTS_DO to call number FAULTS_AT and the FAULTS_MORE after it (-1: to all of them).
 *
 *   FAULTS_KINDS    comma list of create, write, fsync, truncate, rename, link, unlink (these when not given: all that
 *                   change what is on the disk), open, read
 *   FAULTS_NAME     shell pattern for the file's name
 *   FAULTS_DO       kill (before the call), after (it), torn (half of the write, then kill), short (half of it),
 *                   lie (fsync fails, and what was written since the last good one is gone), lose (fsync fails, and
 *                   what was written is in memory alone, for good; then kill), or an errno's name
 *   FAULTS_JOURNAL  file that gets a record of each change, for power cuts (see powercut.py)
 *   FAULTS_CONTROL  file of `struct control`, shared with whoever tests: switches faults and moves the clock
 *
 * Faults wait for faults_arm(), which the loader calls, and which a forked child calls again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 65536 /* descriptors that are followed; no process here has more */
#define PATH_SIZE 4096

enum { PASS = 0, KILL = -1, AFTER = -2, TORN = -3, SHORT = -4, LIE = -5, LOSE = -6 }; /* or an errno, which is positive */

struct control {
    int64_t is_on;    /* whether faults happen, and calls are numbered */
    int64_t shift_ns; /* what the wall clock is off by */
    int64_t stop_ns;  /* where it stands still; 0: it goes */
    int64_t seen;     /* calls numbered so far */
    int64_t done;     /* faults done so far */
};
static struct control private_control = {1, 0, 0, 0, 0};
static struct control *control = &private_control;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *names[FILES_MAX];
static char folder[PATH_SIZE];
static size_t folder_length;
static const char *kinds, *pattern;
static int64_t at, more;
static int what, is_lying, journal = -1;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *), (*real_link)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

static void find(void) {
    if (real_clock_gettime) return;
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_read = dlsym(RTLD_NEXT, "read");
    real_pread = dlsym(RTLD_NEXT, "pread64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_link = dlsym(RTLD_NEXT, "link");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

/* --- what is asked for ------------------------------------------------------------------------------------------- */

static int named(const char *name) {
    static const struct { const char *name; int value; } known[] = {
        {"kill", KILL}, {"after", AFTER}, {"torn", TORN}, {"short", SHORT}, {"lie", LIE}, {"lose", LOSE}, {"EIO", EIO},
        {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EMFILE", EMFILE}, {"EACCES", EACCES}, {"EDQUOT", EDQUOT},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) return known[i].value;
    abort(); /* a test that asks for what there is not must not pass */
}

static int64_t number(const char *name, int64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

__attribute__((constructor, visibility("default"))) void faults_arm(void) {
    find();
    const char *wanted = getenv("FAULTS_FOLDER");
    strncpy(folder, wanted ? wanted : "", PATH_SIZE - 1);
    folder_length = strlen(folder);
    kinds = getenv("FAULTS_KINDS");
    if (!kinds) kinds = "create,write,fsync,truncate,rename,link,unlink";
    pattern = getenv("FAULTS_NAME");
    at = number("FAULTS_AT", 0);
    more = number("FAULTS_MORE", 0);
    what = getenv("FAULTS_DO") ? named(getenv("FAULTS_DO")) : PASS;
    is_lying = what == LIE;
    if (getenv("FAULTS_JOURNAL"))
        journal = real_open(getenv("FAULTS_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (getenv("FAULTS_CONTROL")) {
        int handle = real_open(getenv("FAULTS_CONTROL"), O_RDWR | O_CLOEXEC);
        void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
        if (handle < 0 || shared == MAP_FAILED) abort();
        control = shared;
        real_close(handle);
    }
}

static const char *below(const char *path, char *room) {
    if (!folder_length || !path) return NULL;
    if (*path != '/') {
        if (!getcwd(room, PATH_SIZE / 2)) return NULL;
        strcat(room, "/");
        strncat(room, path, PATH_SIZE / 2 - 2);
        path = room;
    }
    size_t length = strlen(path);
    if (strncmp(path, folder, folder_length) || (path[folder_length] != '/' && path[folder_length])) return NULL;
    return length > 4 && !strcmp(path + length - 4, "-shm") ? NULL : path;
}

static int has(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *found = list; (found = strstr(found, word)); found += length)
        if ((found == list || found[-1] == ',') && (found[length] == ',' || !found[length])) return 1;
    return 0;
}

/* Number a call and tell what becomes of it. */
static int judge(const char *kind, const char *path) {
    if (!control->is_on || !has(kinds, kind)) return PASS;
    const char *name = strrchr(path, '/');
    if (pattern && fnmatch(pattern, name ? name + 1 : path, 0)) return PASS;
    int64_t call = ++control->seen;
    if (what == PASS || at <= 0 || call < at || (more >= 0 && call > at + more)) return PASS;
    control->done++;
    if (what == KILL) kill(getpid(), SIGKILL);
    return what;
}

static void die_if(int verdict) {
    if (verdict == AFTER || verdict == TORN) kill(getpid(), SIGKILL);
}

static const char *name_of(int fd) { return fd >= 0 && fd < FILES_MAX ? names[fd] : NULL; }

/* --- the journal of changes ----------------------------------------------------------------------------------------- */

struct record {
    uint64_t kind, inode, offset, size, path_size, other_size;
};

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static void put_all(const void *data, size_t size) {
    while (size) {
        ssize_t done = syscall(SYS_write, journal, data, size);
        if (done < 0) abort();
        data = (const char *)data + done;
        size -= done;
    }
}

static void note(char kind, uint64_t inode, const char *path, const char *other, uint64_t offset, uint64_t size,
                 const void *data) {
    if (journal < 0) return;
    struct record record = {kind, inode, offset, size, path ? strlen(path) : 0, other ? strlen(other) : 0};
    put_all(&record, sizeof record);
    put_all(path, record.path_size);
    put_all(other, record.other_size);
    if (data) put_all(data, size);
}

/* --- what a lying fsync takes back ---------------------------------------------------------------------------------- */

struct image {
    struct image *before;
    uint64_t inode;
    off_t offset, end;
    size_t size;
    char data[];
};
static struct image *unsynced;

static void remember(int fd, off_t offset, size_t size) {
    struct stat found;
    if (!is_lying || fstat(fd, &found)) return;
    struct image *image = malloc(sizeof *image + size);
    ssize_t got = syscall(SYS_pread64, fd, image->data, size, offset); /* the descriptor may not be for reading */
    *image = (struct image){unsynced, found.st_ino, offset, found.st_size, got > 0 ? got : 0};
    unsynced = image;
}

static void settle(int fd, int take_back) {
    uint64_t inode = inode_of(fd);
    for (struct image **place = &unsynced, *image; (image = *place);) {
        if (image->inode != inode) {
            place = &image->before;
            continue;
        }
        if (take_back) {
            if (real_pwrite(fd, image->data, image->size, image->offset) < 0) abort();
            if (real_ftruncate(fd, image->end)) abort();
        }
        *place = image->before;
        free(image);
    }
}

/* --- the calls ---------------------------------------------------------------------------------------------------- */

#define REFUSE(verdict)                                                                                                \
    do {                                                                                                               \
        if ((verdict) > 0) {                                                                                           \
            pthread_mutex_unlock(&mutex);                                                                              \
            errno = (verdict);                                                                                         \
            return -1;                                                                                                 \
        }                                                                                                              \
    } while (0)

static int open_it(int at_folder, const char *given, int flags, mode_t mode) {
    char room[PATH_SIZE];
    find();
    const char *path = at_folder == AT_FDCWD || (given && *given == '/') ? below(given, room) : NULL;
    if (!path) return real_openat(at_folder, given, flags, mode);
    pthread_mutex_lock(&mutex);
    int verdict = judge("open", path), is_new = 0;
    REFUSE(verdict);
    if (flags & (O_CREAT | O_TRUNC)) {
        struct stat found;
        is_new = flags & O_CREAT && lstat(path, &found);
        if (is_new || flags & O_TRUNC) {
            verdict = judge("create", path);
            REFUSE(verdict);
        }
    }
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && fd < FILES_MAX) {
        names[fd] = strdup(path);
        if (is_new) note('c', inode_of(fd), path, NULL, 0, 0, NULL);
        else if (flags & O_TRUNC) note('t', inode_of(fd), path, NULL, 0, 0, NULL);
    }
    int kept = errno;
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return fd;
}

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_it(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE_OF(flags) return open_it(AT_FDCWD, path, flags, mode); }
int openat64(int at_folder, const char *path, int flags, ...) {
    MODE_OF(flags) return open_it(at_folder, path, flags, mode);
}
int openat(int at_folder, const char *path, int flags, ...) {
    MODE_OF(flags) return open_it(at_folder, path, flags, mode);
}

int close(int fd) {
    find();
    if (name_of(fd)) {
        pthread_mutex_lock(&mutex);
        free(names[fd]);
        names[fd] = NULL;
        pthread_mutex_unlock(&mutex);
    }
    return real_close(fd);
}

static ssize_t put(int fd, const void *data, size_t size, off_t offset, int is_positional) {
    find();
    const char *path = name_of(fd);
    if (!path) return is_positional ? real_pwrite(fd, data, size, offset) : real_write(fd, data, size);
    pthread_mutex_lock(&mutex);
    int verdict = judge("write", path);
    REFUSE(verdict);
    if ((verdict == TORN || verdict == SHORT) && size > 1) size /= 2;
    if (!is_positional) offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    remember(fd, offset, size);
    ssize_t done = is_positional ? real_pwrite(fd, data, size, offset) : real_write(fd, data, size);
    int kept = errno;
    if (done > 0) note('w', inode_of(fd), path, NULL, offset, done, data);
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    find();
    if (!name_of(fd)) return real_writev(fd, parts, count);
    return count ? put(fd, parts[0].iov_base, parts[0].iov_len, 0, 0) : 0; /* the caller goes on with what is left */
}

static ssize_t get(int fd, void *data, size_t size, off_t offset, int is_positional) {
    find();
    const char *path = name_of(fd);
    if (path) {
        pthread_mutex_lock(&mutex);
        int verdict = judge("read", path);
        REFUSE(verdict);
        if (verdict == SHORT && size > 1) size /= 2;
        pthread_mutex_unlock(&mutex);
    }
    return is_positional ? real_pread(fd, data, size, offset) : real_read(fd, data, size);
}

ssize_t read(int fd, void *data, size_t size) { return get(fd, data, size, 0, 0); }
ssize_t pread(int fd, void *data, size_t size, off_t offset) { return get(fd, data, size, offset, 1); }
ssize_t pread64(int fd, void *data, size_t size, off_t offset) { return get(fd, data, size, offset, 1); }

static int sync_it(int fd, int (*real)(int)) {
    const char *path = name_of(fd);
    if (!path) return real(fd);
    pthread_mutex_lock(&mutex);
    int verdict = judge("fsync", path);
    if (verdict == LIE) {
        settle(fd, 1);
        verdict = EIO;
    }
    REFUSE(verdict);
    if (verdict == LOSE) {
        note('x', inode_of(fd), path, NULL, 0, 0, NULL);
        kill(getpid(), SIGKILL);
    }
    int done = real(fd), kept = errno;
    if (!done) {
        if (is_lying) settle(fd, 0);
        note('f', inode_of(fd), path, NULL, 0, 0, NULL);
    }
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}

int fsync(int fd) {
    find();
    return sync_it(fd, real_fsync);
}
int fdatasync(int fd) {
    find();
    return sync_it(fd, real_fdatasync);
}

int ftruncate64(int fd, off_t size) {
    find();
    const char *path = name_of(fd);
    if (!path) return real_ftruncate(fd, size);
    pthread_mutex_lock(&mutex);
    int verdict = judge("truncate", path);
    REFUSE(verdict);
    struct stat found;
    if (!fstat(fd, &found) && found.st_size > size) remember(fd, size, found.st_size - size);
    int done = real_ftruncate(fd, size), kept = errno;
    if (!done) note('t', inode_of(fd), path, NULL, size, 0, NULL);
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int move(const char *kind, char letter, const char *from, const char *to,
                int (*real)(const char *, const char *)) {
    char room[PATH_SIZE], other_room[PATH_SIZE];
    const char *source = below(from, room), *target = below(to, other_room);
    if (!source && !target) return real(from, to);
    pthread_mutex_lock(&mutex);
    int verdict = judge(kind, target ? target : source);
    REFUSE(verdict);
    int done = real(from, to), kept = errno;
    if (!done) note(letter, 0, source, target, 0, 0, NULL);
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}

int rename(const char *from, const char *to) {
    find();
    return move("rename", 'r', from, to, real_rename);
}
int link(const char *from, const char *to) {
    find();
    return move("link", 'l', from, to, real_link);
}

int unlink(const char *given) {
    char room[PATH_SIZE];
    find();
    const char *path = below(given, room);
    if (!path) return real_unlink(given);
    pthread_mutex_lock(&mutex);
    int verdict = judge("unlink", path);
    REFUSE(verdict);
    int done = real_unlink(path), kept = errno;
    if (!done) note('u', 0, path, NULL, 0, 0, NULL);
    die_if(verdict);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    find();
    int done = real_clock_gettime(clock, now);
    if (clock != CLOCK_REALTIME || done || (!control->shift_ns && !control->stop_ns)) return done;
    int64_t ns = control->stop_ns ? control->stop_ns : now->tv_sec * 1000000000LL + now->tv_nsec + control->shift_ns;
    now->tv_sec = ns / 1000000000LL;
    now->tv_nsec = ns % 1000000000LL;
    return 0;
}

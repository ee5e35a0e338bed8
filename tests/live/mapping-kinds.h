/* Shared by the files of the mapping-kinds program; see mapping-kinds.c. */
#ifndef MAPPING_KINDS_H
#define MAPPING_KINDS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define HUGE ((size_t)2 << 20)

/* Constants newer than the headers this may be compiled with. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif

#define PRIV (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHAR (MAP_SHARED | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

/* Set by main before any kind is made. */
extern const char *work_dir;

/* Kinds are reported in the order they are added. `addr` may be any byte address. */
void kind_add(const char *name, const void *addr, size_t len, const char *note);
void kind_skip(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Skips with "WHAT: ERRNO" of the call that has just failed. */
void kind_skip_errno(const char *name, const char *what);

const char *errno_name(int number);

/* Reserves an address for `len` bytes, 2 MiB aligned, with at least 2 MiB never mapped on either side. */
char *slot(size_t len);
/* mmap at exactly `at`; MAP_FAILED with errno when that is not possible. */
char *map_at(char *at, size_t len, int prot, int flags, int fd, off_t offset);
/* slot + map_at. */
char *map_slot(size_t len, int prot, int flags, int fd, off_t offset);
/* Stores to the first byte of each page. */
void touch(char *at, size_t pages);
/* Maps, touches the first `touched` pages and adds the kind, or skips it when mmap fails. NULL when skipped. */
char *simple_kind(const char *name, size_t pages, size_t touched, int prot, int flags, int fd, const char *note);

/* A new file of `pages` pages under `directory`, removed by remove_files(); -1 with errno. */
int make_file(const char *directory, const char *name, size_t pages, char *path_out, size_t path_size);
/* Remembers a path (file or directory) to remove at exit, in reverse order. */
void remember_path(const char *path);
/* Remembers a directory that must be unmounted before paths are removed. */
void remember_mount(const char *path);
void remove_files(void);
/* A memfd of `pages` pages; -1 with errno. */
int make_memfd(const char *name, size_t pages, unsigned flags);
/* Enters a mount namespace of our own, once; false with errno. */
bool own_mounts(void);
/* mkdir work_dir/name and remember it; false with errno. */
bool make_directory(const char *name, char *path_out, size_t path_size);
/* The file system of work_dir is one of disk files (not tmpfs or ramfs); NULL, or why not. */
const char *no_disk_files(void);
const char *disk_name(void);

/* The first line of /proc/self/maps with that name ("[vdso]"). */
bool find_mapping(const char *name, uintptr_t *start, uintptr_t *end);
/* A number in a /proc file after `key`; -1 when there is none. */
long proc_number(const char *file, const char *key);
/* AnonHugePages of the mapping that starts at `start`, in KiB; -1 when unknown. */
long huge_kib(const char *start);

void kinds_fork(void);
void kinds_anon(char *stack_pages, size_t stack_count);
void kinds_image(void);
void kinds_shmem(void);
void kinds_disk(void);
void kinds_mounts(void);
void kinds_huge(void);
void kinds_special(void);
void kinds_device(void);
void kinds_multi(void);
/* Last: takes what is left of the hugetlb pool and looks at where the stack ends. */
void kinds_exhausted(void);
void kinds_below_stack(void);
void end_children(void);
#endif

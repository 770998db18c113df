/* SPDX-License-Identifier: BSD-2-Clause */
/* [Multiboot 0.6.96 "3.3 Boot information format",
 *  Multiboot2 2.0 "3.6 Boot information format"] */
#include "boot/bootinfo.h"

#include "lib/string.h"

#define MULTIBOOT1_LOADER_MAGIC 0x2badb002u
#define MULTIBOOT2_LOADER_MAGIC 0x36d76289u

#define MULTIBOOT1_HAS_CMDLINE (1u << 2)
#define MULTIBOOT1_HAS_MMAP    (1u << 6)

#define NO_MEMORY_MAP                                                          \
    "the boot loader passed no memory map, or an empty or a damaged one"

struct multiboot1 {
    uint32_t flags;
    uint32_t mem_lower, mem_upper;
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
};

struct multiboot1_region {
    uint32_t size; /* of what follows */
    uint64_t start, length;
    uint32_t type;
} __attribute__((packed));

enum multiboot2_tag_type {
    TAG_END = 0,
    TAG_CMDLINE = 1,
    TAG_MMAP = 6,
    TAG_RSDP1 = 14,
    TAG_RSDP2 = 15,
};

struct multiboot2_tag {
    uint32_t type, size;
};

struct multiboot2_mmap {
    struct multiboot2_tag tag;
    uint32_t entry_size, entry_version;
};

struct multiboot2_region {
    uint64_t start, length;
    uint32_t type, reserved;
};

static void copy_cmdline(struct bootinfo *to, const char *from, size_t limit)
{
    size_t i = 0;
    while (i < sizeof to->cmdline - 1 && i < limit && from[i]) {
        to->cmdline[i] = from[i];
        i++;
    }
    to->cmdline[i] = '\0';
}

static void add_region(struct bootinfo *to, uint64_t start, uint64_t length,
                       uint32_t type)
{
    if (!length || start + length < start) {
        to->ignored++;
        return;
    }
    if (to->region_count == BOOT_REGIONS_MAX) {
        to->dropped++;
        return;
    }
    to->regions[to->region_count++] =
        (struct region){start, start + length, type};
}

/* QEMU and GRUB 1 put the kernel's own name before its options. */
static const char *skip_word(const char *s)
{
    while (*s && *s != ' ')
        s++;
    while (*s == ' ')
        s++;
    return s;
}

static const char *read1(struct bootinfo *to, const struct multiboot1 *info,
                         const void *(*at)(uint64_t))
{
    to->protocol = "Multiboot 1";
    if (info->flags & MULTIBOOT1_HAS_CMDLINE)
        copy_cmdline(to, skip_word(at(info->cmdline)), BOOT_CMDLINE_MAX);
    if (!(info->flags & MULTIBOOT1_HAS_MMAP))
        return NO_MEMORY_MAP;
    /* 64 bits: no size that the loader gives makes it wrap. */
    uint64_t done = 0;
    while (done + sizeof(struct multiboot1_region) <= info->mmap_length) {
        struct multiboot1_region r;
        memcpy(&r, at(info->mmap_addr + done), sizeof r);
        uint64_t next = done + sizeof r.size + r.size;
        if (next < done + sizeof r || next > info->mmap_length)
            break;
        add_region(to, r.start, r.length, r.type);
        done = next;
    }
    return to->region_count ? NULL : NO_MEMORY_MAP;
}

static void read_map2(struct bootinfo *to, const char *tag, uint32_t size)
{
    struct multiboot2_mmap map;
    struct multiboot2_region r;
    if (size < sizeof map)
        return;
    memcpy(&map, tag, sizeof map);
    if (map.entry_size < sizeof r)
        return;
    for (uint64_t at = sizeof map; at + sizeof r <= size;
         at += map.entry_size) {
        memcpy(&r, tag + at, sizeof r);
        add_region(to, r.start, r.length, r.type);
    }
}

static const char *read2(struct bootinfo *to, const char *info)
{
    to->protocol = "Multiboot 2";
    uint32_t total = *(const uint32_t *)info;
    uint64_t offset = 8;
    while (offset + sizeof(struct multiboot2_tag) <= total) {
        const struct multiboot2_tag *tag = (const void *)(info + offset);
        if (tag->type == TAG_END || tag->size < sizeof *tag ||
            tag->size > total - offset)
            break;
        const char *body = (const char *)(tag + 1);
        size_t size = tag->size - sizeof *tag;
        if (tag->type == TAG_CMDLINE) {
            copy_cmdline(to, body, size);
        } else if (tag->type == TAG_MMAP) {
            read_map2(to, (const char *)tag, tag->size);
        } else if (tag->type == TAG_RSDP1 || tag->type == TAG_RSDP2) {
            memcpy(to->rsdp, body,
                   size < sizeof to->rsdp ? size : sizeof to->rsdp);
            to->has_rsdp = true;
        }
        offset += ((uint64_t)tag->size + 7) & ~7ull;
    }
    return to->region_count ? NULL : NO_MEMORY_MAP;
}

/* The first place above `after` where an entry begins or ends. */
static bool next_edge(const struct bootinfo *info, uint64_t after,
                      uint64_t *edge)
{
    bool found = false;
    for (size_t i = 0; i < info->region_count; i++) {
        const uint64_t ends[] = {info->regions[i].start, info->regions[i].end};
        for (size_t e = 0; e < 2; e++) {
            if (ends[e] > after && (!found || ends[e] < *edge)) {
                *edge = ends[e];
                found = true;
            }
        }
    }
    return found;
}

/*
 * What the entries say together, in whatever order they come: between two
 * edges each says the same of every byte.  What one entry calls anything but
 * RAM is not RAM, and neither is what none speaks of.
 */
static void find_ram(struct bootinfo *info)
{
    uint64_t start = 0, end = 0;
    for (; next_edge(info, start, &end); start = end) {
        bool ram = false, other = false;
        for (size_t i = 0; i < info->region_count; i++) {
            const struct region *r = &info->regions[i];
            if (r->start <= start && end <= r->end)
                *(r->type == REGION_RAM ? &ram : &other) = true;
        }
        info->overlaps += ram && other;
        if (!ram || other)
            continue;
        struct range *last = info->ram + info->ram_count;
        if (info->ram_count && last[-1].end == start)
            last[-1].end = end;
        else
            info->ram[info->ram_count++] = (struct range){start, end};
    }
}

const char *bootinfo_read(struct bootinfo *to, uint32_t magic, const void *info,
                          const void *(*at)(uint64_t))
{
    const char *problem =
        "the boot loader is not Multiboot 1 or 2 (EAX has another magic)";
    memset(to, 0, sizeof *to);
    if (magic == MULTIBOOT1_LOADER_MAGIC)
        problem = read1(to, info, at);
    else if (magic == MULTIBOOT2_LOADER_MAGIC)
        problem = read2(to, info);
    find_ram(to);
    return problem;
}

bool bootinfo_is_ram(const struct bootinfo *info, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < info->ram_count; i++)
        if (info->ram[i].start <= start && end <= info->ram[i].end)
            return true;
    return false;
}

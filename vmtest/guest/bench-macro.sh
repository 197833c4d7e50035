#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real task for `cargo xtask bench`: a small C program of several files is compiled, linked and
# run. The compiler is Debian's tcc, which is so fast that it spends a large part of its time in the
# kernel: what is added there shows.
set -e
directory=/srv/build
rm -rf $directory
mkdir -p $directory
cd $directory
unit=0
while [ $unit -lt 5 ]; do
    cat >unit$unit.c <<SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <time.h>
int unit$unit(int n) {
    char text[64];
    snprintf(text, sizeof(text), "%d", n);
    return n + (int)strlen(text) + (errno == EINTR) + (getpid() == 0);
}
SOURCE
    unit=$((unit + 1))
done
cat >main.c <<SOURCE
int unit0(int), unit1(int), unit2(int), unit3(int), unit4(int);
int main(void) {
    return unit0(1) + unit1(1) + unit2(1) + unit3(1) + unit4(1) != 10;
}
SOURCE
for source in *.c; do
    tcc -c "$source"
done
tcc -o program ./*.o
./program

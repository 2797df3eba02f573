// CUDA's short vectors, aligned as there.
#pragma once

#include "tests/cuda_on_cpu/emulator.h"  // uint3

#define TERROIR_VECTOR2(name, type, alignment) \
  struct name##2 {                             \
    type x, y;                                 \
  }                                            \
  __attribute__((aligned(alignment)));         \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define TERROIR_VECTOR4(name, type, alignment) \
  struct name##4 {                             \
    type x, y, z, w;                           \
  }                                            \
  __attribute__((aligned(alignment)));         \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

TERROIR_VECTOR2(char, signed char, 2)
TERROIR_VECTOR2(uchar, unsigned char, 2)
TERROIR_VECTOR2(short, short, 4)
TERROIR_VECTOR2(ushort, unsigned short, 4)
TERROIR_VECTOR2(int, int, 8)
TERROIR_VECTOR2(uint, unsigned, 8)
TERROIR_VECTOR2(float, float, 8)
TERROIR_VECTOR2(longlong, long long, 16)
TERROIR_VECTOR2(ulonglong, unsigned long long, 16)
TERROIR_VECTOR2(double, double, 16)
TERROIR_VECTOR4(char, signed char, 4)
TERROIR_VECTOR4(uchar, unsigned char, 4)
TERROIR_VECTOR4(short, short, 8)
TERROIR_VECTOR4(ushort, unsigned short, 8)
TERROIR_VECTOR4(int, int, 16)
TERROIR_VECTOR4(uint, unsigned, 16)
TERROIR_VECTOR4(float, float, 16)
TERROIR_VECTOR4(longlong, long long, 16)
TERROIR_VECTOR4(ulonglong, unsigned long long, 16)
TERROIR_VECTOR4(double, double, 16)

#undef TERROIR_VECTOR2
#undef TERROIR_VECTOR4

struct int3 {
  int x, y, z;
};
struct float3 {
  float x, y, z;
};
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }

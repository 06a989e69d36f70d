// Vectors of sixteen numbers in the compiler's own vector types: it knows what this CPU has for them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef int8_t small __attribute__((vector_size(16)));

constexpr int64_t LANES = 16;

inline floats load(const float* from) {
    floats vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

inline void store(float* to, floats vector) { std::memcpy(to, &vector, sizeof vector); }

inline floats all(float value) { return floats{} + value; }

// Of two numbers the second where one of them is none.
inline floats larger(floats a, floats b) { return a > b ? a : b; }

inline floats magnitude(floats a) { return (floats)((ints)a & 0x7fffffff); }

inline float sum_of(floats vector) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)vector);
#else
    float lanes[LANES];
    store(lanes, vector);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
#endif
}

inline float largest_of(floats vector) {
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)vector);
#else
    float lanes[LANES], most;
    store(lanes, vector);
    most = lanes[0];
    for (int64_t lane = 1; lane < LANES; lane++) most = lanes[lane] > most ? lanes[lane] : most;
    return most;
#endif
}

// Added to a number of few bits, this leaves the nearest whole number (ties to even) in the low bits.
constexpr float WHOLE = 12582912.0f;  // 1.5 * 2^23
constexpr int32_t WHOLE_BITS = 0x4b400000;

// e^x to a few units in the last place; what is below e^-87 comes out as that.
inline floats exponential(floats x) {
    x = x < -87.0f ? all(-87.0f) : x;  // in this order it leaves what is no number
    x = x > 88.0f ? all(88.0f) : x;
    floats shifted = x * 1.44269504f + WHOLE;
    floats power = shifted - WHOLE;
    floats rest = x - power * 0.693359375f + power * 2.12194440e-4f;
    floats value = all(1.9875691500e-4f);
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * rest * rest + rest + 1.0f;
    ints doubled = ((ints)shifted - WHOLE_BITS + 127) << 23;  // 2^power
    return value * (floats)doubled;
}

// The error function to 2e-7: Abramowitz and Stegun 1964, 7.1.26.
inline floats error_function(floats x) {
    floats size = magnitude(x);
    floats t = 1.0f / (1.0f + 0.3275911f * size);
    floats sum = all(1.061405429f);
    sum = sum * t - 1.453152027f;
    sum = sum * t + 1.421413741f;
    sum = sum * t - 0.284496736f;
    sum = sum * t + 0.254829592f;
    floats value = 1.0f - sum * t * exponential(-size * size);
    return x < 0.0f ? -value : value;
}

// Memory of a kind of number that grows and is found again by the next call.
template <class Number>
class Buffer {
  public:
    ~Buffer() { std::free(start_); }

    Number* of(int64_t count) {
        if (count > count_) {
            std::free(start_);
            int64_t size = (count * int64_t(sizeof(Number)) + 63) / 64 * 64;
            start_ = static_cast<Number*>(std::aligned_alloc(64, size));
            if (!start_) std::abort();
            count_ = count;
        }
        return start_;
    }

  private:
    Number* start_ = nullptr;
    int64_t count_ = 0;
};

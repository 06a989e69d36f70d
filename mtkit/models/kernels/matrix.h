// Products of rows with matrices of float32 or of integers of eight bits.
#pragma once

#include <algorithm>

#include "vectors.h"

constexpr int64_t PANEL = 64;  // columns of the result that are computed together
constexpr int64_t VECTORS = PANEL / LANES;
constexpr int64_t ROWS = 6;  // rows that are computed together: their 24 sums stay in registers

// A matrix [N, M] as it lies in panels of 64 of its N rows, the last one filled up with zeros.
//
// float32: [N / 64, M, 64]. Eight bits: [N / 64, M / 4, 64, 4], the integers with 128 added.
// Scales and biases have room for whole panels.
struct Matrix {
    int64_t outputs, inputs;
    const void* panels;
    const float* scale;  // of each row of integers; null: the panels are float32
    const float* bias;
};

// What becomes of the products.
enum class After { stored, relu, gelu, added };

struct Float32 {
    using Sum = floats;
    using Number = float;
    using Weight = float;
    static constexpr int64_t group = 1;  // numbers of a row that are multiplied at a time

    static void add(Sum& sum, const Weight* weights, const Number* number) {
        sum += load(weights) * *number;
    }
};

// To each of 16 sums the products of four weights and four signed numbers, which lie in one integer.
inline ints add_products(ints sum, const uint8_t* weights, int32_t four) {
#if defined __AVX512VNNI__
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_loadu_si512(weights),
                                     _mm512_set1_epi32(four));
#elif defined __AVX2__
    // Numbers 0 and 2, and 1 and 3, as pairs of 16 bits: nothing is cut off on the way.
    __m256i every = _mm256_set1_epi32(four);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(every, 8), 8);
    __m256i odd = _mm256_srai_epi16(every, 8);
    __m256i halves[2];
    std::memcpy(halves, &sum, sizeof sum);
    for (int64_t half = 0; half < 2; half++) {
        __m256i bytes = _mm256_loadu_si256((const __m256i*)(weights + 32 * half));
        __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi16(255));
        __m256i products = _mm256_add_epi32(_mm256_madd_epi16(low, even),
                                            _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), odd));
        halves[half] = _mm256_add_epi32(halves[half], products);
    }
    std::memcpy(&sum, halves, sizeof sum);
    return sum;
#else
    for (int64_t lane = 0; lane < LANES; lane++)
        for (int64_t part = 0; part < 4; part++)
            sum[lane] += int32_t(weights[4 * lane + part]) * int8_t(four >> (8 * part));
    return sum;
#endif
}

struct Int8 {
    using Sum = ints;
    using Number = int8_t;
    using Weight = uint8_t;
    static constexpr int64_t group = 4;

    static void add(Sum& sum, const Weight* weights, const Number* numbers) {
        int32_t four;
        std::memcpy(&four, numbers, sizeof four);
        sum = add_products(sum, weights, four);
    }
};

// Rows [M] as a matrix of this kind takes them: floats as they are, or integers with their scales.
template <class Kind>
struct Rows {
    const typename Kind::Number* numbers;
    const float* scales = nullptr;
    const int32_t* excess = nullptr;  // what the 128 in each weight has added to the sums
};

// Rows [count, M] as integers: round(x / scale), scale = max |x| / 127. No integer stands for what is
// no number, so then the scale is none either.
inline Rows<Int8> rounded(const float* x, int64_t count, int64_t width) {
    static thread_local Buffer<int8_t> number_room;
    static thread_local Buffer<float> scale_room;
    static thread_local Buffer<int32_t> excess_room;
    int8_t* numbers = number_room.of(count * width);
    float* scales = scale_room.of(count);
    int32_t* excess = excess_room.of(count);
    for (int64_t row = 0; row < count; row++, x += width) {
        floats most{}, zeros{};
        for (int64_t i = 0; i < width; i += LANES) {
            most = larger(magnitude(load(x + i)), most);
            zeros += load(x + i) * 0.0f;
        }
        float scale = std::max(largest_of(most), 1e-30f) / 127.0f + sum_of(zeros);
        ints sum{};
        for (int64_t i = 0; i < width; i += LANES) {
            ints whole = (ints)(load(x + i) / scale + WHOLE) - WHOLE_BITS;
            sum += whole;
            auto narrow = __builtin_convertvector(whole, small);
            std::memcpy(numbers + row * width + i, &narrow, sizeof narrow);
        }
        int32_t total = 0;
        for (int64_t lane = 0; lane < LANES; lane++) total += sum[lane];
        scales[row] = scale, excess[row] = 128 * total;
    }
    return {numbers, scales, excess};
}

// Sums of one row as numbers of the result.
inline floats value(const Rows<Float32>&, int64_t, floats sum, const float*) { return sum; }

inline floats value(const Rows<Int8>& rows, int64_t row, ints sum, const float* scale) {
    floats exact = __builtin_convertvector(sum - rows.excess[row], floats);
    return exact * rows.scales[row] * load(scale);
}

// Count rows times the panel whose columns begin at `column`, to out [., N]. The order of the sums
// of a row does not depend on Count, so a row gives the same beside any others.
template <class Kind, int64_t Count>
void multiply(const Matrix& matrix, int64_t column, Rows<Kind> rows, int64_t first, After after,
              float* out) {
    int64_t width = matrix.inputs;
    auto weights = static_cast<const typename Kind::Weight*>(matrix.panels) + column * width;
    auto numbers = rows.numbers + first * width;
    typename Kind::Sum sums[Count][VECTORS];
    for (auto& row : sums)
        for (auto& sum : row) sum = typename Kind::Sum{};
    for (int64_t place = 0; place < width; place += Kind::group, weights += PANEL * Kind::group)
#pragma GCC unroll 6
        for (int64_t row = 0; row < Count; row++)
#pragma GCC unroll 4
            for (int64_t part = 0; part < VECTORS; part++)
                Kind::add(sums[row][part], weights + part * LANES * Kind::group,
                          numbers + row * width + place);
    const float* scale = matrix.scale ? matrix.scale + column : nullptr;
    int64_t columns = std::min(PANEL, matrix.outputs - column);
    for (int64_t row = 0; row < Count; row++) {
        float* to = out + (first + row) * matrix.outputs + column;
        float spare[PANEL];
        if (columns < PANEL) std::memcpy(spare, to, columns * sizeof(float));
        float* whole = columns < PANEL ? spare : to;
        for (int64_t part = 0; part < VECTORS; part++) {
            int64_t at = part * LANES;
            floats x = value(rows, first + row, sums[row][part], scale ? scale + at : nullptr);
            x += load(matrix.bias + column + at);
            if (after == After::relu) x = x < 0.0f ? floats{} : x;
            if (after == After::gelu) x = 0.5f * x * (1.0f + error_function(x * 0.70710678f));
            if (after == After::added) x += load(whole + at);
            store(whole + at, x);
        }
        if (columns < PANEL) std::memcpy(to, spare, columns * sizeof(float));
    }
}

template <class Kind>
void multiply_all(const Matrix& matrix, Rows<Kind> rows, int64_t count, After after, float* out) {
    for (int64_t column = 0; column < matrix.outputs; column += PANEL)
        for (int64_t first = 0; first < count; first += ROWS)
            switch (std::min(count - first, ROWS)) {
                case 1: multiply<Kind, 1>(matrix, column, rows, first, after, out); break;
                case 2: multiply<Kind, 2>(matrix, column, rows, first, after, out); break;
                case 3: multiply<Kind, 3>(matrix, column, rows, first, after, out); break;
                case 4: multiply<Kind, 4>(matrix, column, rows, first, after, out); break;
                case 5: multiply<Kind, 5>(matrix, column, rows, first, after, out); break;
                default: multiply<Kind, ROWS>(matrix, column, rows, first, after, out);
            }
}

// Rows x [count, M] times the matrix, plus its bias, to out [count, N].
inline void linear(const Matrix& matrix, const float* x, int64_t count, After after, float* out) {
    if (matrix.scale)
        multiply_all<Int8>(matrix, rounded(x, count, matrix.inputs), count, after, out);
    else
        multiply_all<Float32>(matrix, {x}, count, after, out);
}

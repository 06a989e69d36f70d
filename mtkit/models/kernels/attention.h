// Attention of one query at a time, and the normalisation of layers.
#pragma once

#include <cmath>

#include "vectors.h"

struct Norm {
    const float *weight, *bias;
};

// Rows x [count, D] normalised to their mean and variance, to out [count, D], which may be x.
inline void normalise(const Norm& norm, const float* x, int64_t count, int64_t width, float epsilon,
                      float* out) {
    for (int64_t row = 0; row < count; row++, x += width, out += width) {
        floats sum{}, squares{};
        for (int64_t i = 0; i < width; i += LANES) sum += load(x + i);
        float mean = sum_of(sum) / float(width);
        for (int64_t i = 0; i < width; i += LANES) {
            floats away = load(x + i) - mean;
            squares += away * away;
        }
        float scale = 1.0f / std::sqrt(sum_of(squares) / float(width) + epsilon);
        for (int64_t i = 0; i < width; i += LANES)
            store(out + i, (load(x + i) - mean) * scale * load(norm.weight + i) +
                               load(norm.bias + i));
    }
}

// What a query may look at: rows that hold keys [D] with the values [D] behind them.
struct Seen {
    const float* const* rows;
    int64_t count;
};

// Asks for a row's values while its keys are being read.
inline void fetch(const float* from, int64_t width) {
    for (int64_t i = 0; i < width; i += LANES) __builtin_prefetch(from + i);
}

// Scores to weights that add up to one; what lies behind `count`, up to whole vectors, is free.
inline void soften(float* scores, int64_t count) {
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t at = count; at < padded; at++) scores[at] = -INFINITY;
    floats most = load(scores), total{};
    for (int64_t at = LANES; at < padded; at += LANES) most = larger(load(scores + at), most);
    float largest = largest_of(most);
    for (int64_t at = 0; at < padded; at += LANES) {
        floats weights = exponential(load(scores + at) - largest);
        store(scores + at, weights);
        total += weights;
    }
    float sum = sum_of(total);
    for (int64_t at = 0; at < padded; at += LANES) store(scores + at, load(scores + at) / sum);
}

// The heads of one query over the rows that it sees, to out [H x Dh]; of nothing, zeros.
inline void attend(const float* query, Seen seen, int64_t heads, int64_t head_width, float* out) {
    static thread_local Buffer<float> room;
    int64_t width = heads * head_width, padded = (seen.count + LANES - 1) / LANES * LANES;
    if (!seen.count) {
        std::memset(out, 0, width * sizeof(float));
        return;
    }
    float* weights = room.of(heads * padded);
    float scale = 1.0f / std::sqrt(float(head_width));
    for (int64_t at = 0; at < seen.count; at++) {
        const float* key = seen.rows[at];
        fetch(key + width, width);
        for (int64_t head = 0; head < heads; head++) {
            floats sum{};
            for (int64_t i = head * head_width; i < (head + 1) * head_width; i += LANES)
                sum += load(query + i) * load(key + i);
            weights[head * padded + at] = sum_of(sum) * scale;
        }
    }
    for (int64_t head = 0; head < heads; head++) {
        const float* own = weights + head * padded;
        soften(weights + head * padded, seen.count);
        for (int64_t i = head * head_width; i < (head + 1) * head_width; i += LANES) {
            floats mixed{};
            for (int64_t at = 0; at < seen.count; at++)
                mixed += load(seen.rows[at] + width + i) * own[at];
            store(out + i, mixed);
        }
    }
}

// One step of a beam search over logits: what decoding/advance.py calls.

#include <algorithm>
#include <cmath>

#include "vectors.h"

// What decoding/advance.py writes down in Python. Candidates of equal value come in the order of
// their hypotheses and tokens.
struct Advance {
    int64_t sentences, beam, words, end;
    int64_t last;       // sentences with this limit end here; 0: none
    int64_t forbidden;  // bit t: no hypothesis holds token t
    double enough;      // finished hypotheses
    const float* logits;                // [B, K, V]
    const float* live;                  // [B, K]
    const int64_t *limits, *finished;   // [B]
    int64_t *tokens, *parents;          // [B, K]
    float *next_live, *ended;           // [B, K]
    int64_t* next_finished;             // [B]
};

namespace {

constexpr int64_t BLOCK = 4 * LANES;  // logits that are looked at once for their maximum

// The log of the sum of the exponentials of logits [V], and the maxima of their blocks.
float survey(const float* logits, int64_t words, float* maxima) {
    alignas(64) float rest[BLOCK];
    int64_t full = words / BLOCK * BLOCK;
    for (int64_t i = 0; i < BLOCK; i++) rest[i] = full + i < words ? logits[full + i] : -INFINITY;
    auto block_at = [&](int64_t place) { return place < full ? logits + place : rest; };
    float most = -INFINITY;
    for (int64_t place = 0; place < words; place += BLOCK) {
        const float* block = block_at(place);
        float here = largest_of(larger(larger(load(block), load(block + LANES)),
                                       larger(load(block + 2 * LANES), load(block + 3 * LANES))));
        maxima[place / BLOCK] = here;
        most = here > most ? here : most;
    }
    floats sums[4] = {};
    for (int64_t place = 0; place < words; place += BLOCK)
        for (int64_t part = 0; part < 4; part++)
            sums[part] += exponential(load(block_at(place) + part * LANES) - most);
    return std::log(sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]))) + most;
}

void advance_sentence(const Advance& call, int64_t sentence) {
    static thread_local Buffer<float> room;
    int64_t beam = call.beam, words = call.words, first = sentence * beam;
    float* maxima = room.of((words + BLOCK - 1) / BLOCK);
    int64_t *tokens = call.tokens + first, *parents = call.parents + first;
    float *best = call.next_live + first, *ends = call.ended + first;
    for (int64_t k = 0; k < beam; k++) tokens[k] = parents[k] = 0, best[k] = -INFINITY;
    auto insert = [&](float value, int64_t token, int64_t parent) {
        int64_t rank = beam - 1;
        for (; rank && value > best[rank - 1]; rank--) {
            best[rank] = best[rank - 1];
            tokens[rank] = tokens[rank - 1];
            parents[rank] = parents[rank - 1];
        }
        best[rank] = value, tokens[rank] = token, parents[rank] = parent;
    };
    for (int64_t k = 0; k < beam; k++) {
        ends[k] = -INFINITY;
        if (call.live[first + k] == -INFINITY) continue;
        const float* logits = call.logits + (first + k) * words;
        float shift = call.live[first + k] - survey(logits, words, maxima);
        ends[k] = logits[call.end] + shift;
        for (int64_t place = 0; place < words; place += BLOCK)
            if (maxima[place / BLOCK] + shift > best[beam - 1])
                for (int64_t token = place; token < std::min(place + BLOCK, words); token++) {
                    float value = logits[token] + shift;
                    bool forbidden = token < 64 && (call.forbidden >> token & 1);
                    if (value > best[beam - 1] && !forbidden) insert(value, token, k);
                }
    }
    if (call.limits[sentence] == call.last)
        for (int64_t k = 0; k < beam; k++) best[k] = -INFINITY;
}

// Which ends are among the K best candidates, and whether the sentence has enough of them.
void finish_sentence(const Advance& call, int64_t sentence) {
    static thread_local Buffer<float> room;
    int64_t beam = call.beam, finished = call.finished[sentence];
    float *live = call.next_live + sentence * beam, *ended = call.ended + sentence * beam;
    float* ends = room.of(beam);
    std::memcpy(ends, ended, beam * sizeof(float));
    for (int64_t k = 0; k < beam; k++) {
        int64_t better = 0;
        for (int64_t other = 0; other < beam; other++)
            better += (live[other] > ends[k]) + (ends[other] > ends[k]);
        if (better >= beam) ended[k] = -INFINITY;
        finished += ended[k] > -INFINITY;
    }
    call.next_finished[sentence] = finished;
    if (double(finished) >= call.enough)
        for (int64_t k = 0; k < beam; k++) live[k] = -INFINITY;
}

}  // namespace

extern "C" void advance(const Advance& call) {
    for (int64_t sentence = 0; sentence < call.sentences; sentence++) {
        advance_sentence(call, sentence);
        finish_sentence(call, sentence);
    }
}

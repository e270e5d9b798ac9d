#include "interface.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "description.h"
#include "pack.h"
#include "path.h"
#include "peaks.h"
#include "processor.h"
#include "team.h"

namespace {

using embedrt::Arena;
using embedrt::InvalidDescription;
using embedrt::Path;
using embedrt::Progress;
using embedrt::Texts;
using embedrt::Workspace;

// The memory of a run, kept for the next one.
struct Room {
    explicit Room(bool huge) : arena(huge) {}

    std::int64_t rows() const { return workspaces.front().rows; }

    Arena arena;
    std::vector<Workspace> workspaces;  // of each thread; they share what is not its own
};

// What a thread takes at least is worth starting it: rows, or columns of the narrowest products.
constexpr std::int64_t kColumnsOfThread = 192;
constexpr std::int64_t kMostThreads = 256;

// The memory of a run with so few rows is smaller than a huge page.
constexpr std::int64_t kFewRows = 64;

void write(char *to, std::uint64_t bytes, const char *message) {
    if (to == nullptr || bytes == 0) return;
    const std::size_t length = std::min<std::size_t>(std::strlen(message), bytes - 1);
    std::memcpy(to, message, length);
    to[length] = '\0';
}

// Run `work`; return the kind of the exception that it throws, and write its message.
template <class Work>
std::int32_t guarded(char *error, std::uint64_t error_bytes, Work work) noexcept {
    try {
        work();
        return EMBEDRT_OK;
    } catch (const InvalidDescription &problem) {
        write(error, error_bytes, problem.what());
        return EMBEDRT_INVALID;
    } catch (const std::exception &problem) {
        write(error, error_bytes, problem.what());
    } catch (...) {
        write(error, error_bytes, "an unknown error");
    }
    return EMBEDRT_FAILED;
}

}  // namespace

struct embedrt_model {
    Arena arena;
    embedrt::Model packed{};
    const Path *path = nullptr;
    std::mutex lock;
    std::vector<std::unique_ptr<Room>> rooms;  // not in use

    // The smallest room with so many rows, or a new one in place of one that is too small.
    std::unique_ptr<Room> take(std::int64_t rows, std::size_t threads) {
        std::unique_ptr<Room> room;
        {
            const std::lock_guard<std::mutex> held(lock);
            const auto found = std::min_element(
                rooms.begin(), rooms.end(), [rows](const auto &one, const auto &other) {
                    return std::pair(one->rows() < rows, one->rows()) <
                           std::pair(other->rows() < rows, other->rows());
                });
            if (found != rooms.end()) {
                room = std::move(*found);
                rooms.erase(found);
            }
        }
        if (room == nullptr || room->rows() < rows) {
            room = std::make_unique<Room>(rows > kFewRows);
            room->workspaces = {make_workspace(packed, (rows + 63) / 64 * 64, room->arena)};
            add_scratch(packed, room->workspaces.front(), room->arena);
        }
        while (room->workspaces.size() < threads) {
            room->workspaces.push_back(room->workspaces.front());
            add_scratch(packed, room->workspaces.back(), room->arena);
        }
        return room;
    }

    void give_back(std::unique_ptr<Room> room) {
        const std::lock_guard<std::mutex> held(lock);
        rooms.push_back(std::move(room));
    }
};

struct embedrt_rest {
    const embedrt_model *model;
    std::unique_ptr<Room> room;
    Progress progress;
};

namespace {

// The limits are so far from those of int64 that no sum or product of them overflows.
void check_texts(const embedrt::Model &model, const Texts &texts, std::uint64_t embeddings_bytes) {
    constexpr std::int64_t kMostRows = 1 << 24;
    if (texts.count < 1 || texts.rows < texts.count || texts.rows > kMostRows) {
        throw InvalidDescription("a batch of " + std::to_string(texts.count) + " texts and " +
                                 std::to_string(texts.rows) + " tokens");
    }
    const auto wanted = static_cast<std::uint64_t>(texts.count * model.hidden) * sizeof(float);
    if (embeddings_bytes != wanted) throw InvalidDescription("the result's memory has another size");
    std::int64_t rows = 0;
    for (std::int64_t text = 0; text < texts.count; ++text) {
        const std::int64_t tokens = texts.tokens[text];
        if (tokens < 1 || tokens > model.most_tokens) {
            throw InvalidDescription("a text of " + std::to_string(tokens) + " tokens; 1 to " +
                                     std::to_string(model.most_tokens) + " have a position");
        }
        rows += tokens;
    }
    if (rows != texts.rows) {
        throw InvalidDescription("texts of " + std::to_string(rows) + " tokens, and " +
                                 std::to_string(texts.rows) + " ids");
    }
    for (std::int64_t row = 0; row < rows; ++row) {
        if (texts.ids[row] < 0 || texts.ids[row] >= model.vocabulary) {
            throw InvalidDescription("token id " + std::to_string(texts.ids[row]) +
                                     " of a vocabulary of " + std::to_string(model.vocabulary));
        }
    }
}

}  // namespace

extern "C" {

std::int32_t embedrt_interface(void) { return EMBEDRT_INTERFACE; }

const char *embedrt_path(std::uint32_t masked) {
    const Path *path = embedrt::fastest_path(embedrt::processor_features() & ~masked);
    return path == nullptr ? nullptr : path->name;
}

std::int32_t embedrt_create(const embedrt_encoder *encoder, const char *path, embedrt_model **model,
                            char *error, std::uint64_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if (encoder == nullptr || path == nullptr || model == nullptr) {
            throw InvalidDescription("an argument is NULL");
        }
        *model = nullptr;
        embedrt::check(*encoder);
        auto made = std::make_unique<embedrt_model>();
        made->path = embedrt::find_path(path, embedrt::processor_features());
        if (made->path == nullptr) {
            throw InvalidDescription("this machine cannot run the path " + std::string(path));
        }
        made->packed = embedrt::pack(*encoder, made->arena);
        made->arena.allow_huge_pages();
        *model = made.release();
    });
}

std::int32_t embedrt_run(embedrt_model *model, std::int32_t threads, const std::int64_t *ids,
                         std::int64_t tokens, const std::int64_t *token_counts, std::int64_t texts,
                         float *embeddings, std::uint64_t embeddings_bytes,
                         const volatile std::int32_t *pause, embedrt_rest **rest, char *error,
                         std::uint64_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if (model == nullptr || ids == nullptr || token_counts == nullptr || embeddings == nullptr) {
            throw InvalidDescription("an argument is NULL");
        }
        const Texts given{ids, token_counts, texts, tokens};
        check_texts(model->packed, given, embeddings_bytes);
        const std::int64_t useful =
            std::max({std::int64_t{1}, tokens / model->path->rows_of_thread,
                      model->packed.hidden / kColumnsOfThread});
        const auto count = static_cast<int>(std::clamp<std::int64_t>(
            threads, 1, std::min(useful, kMostThreads)));
        const bool may_pause = count == 1 && pause != nullptr && rest != nullptr;
        std::unique_ptr<embedrt_rest> state(rest == nullptr ? nullptr : std::exchange(*rest, nullptr));
        if (state == nullptr) {
            auto room = model->take(tokens, static_cast<std::size_t>(count));
            state.reset(new embedrt_rest{model, std::move(room), {}});
        } else if (!may_pause || state->model != model || state->room->rows() < tokens ||
                   state->progress.texts >= texts) {
            throw InvalidDescription("another batch than the one that paused");
        }
        state->progress.wanted = may_pause ? pause : nullptr;
        bool is_done = true;
        embedrt::run_parts(count, [&](const embedrt::Part &part) {
            Progress progress = state->progress;
            const bool ended = model->path->run(
                model->packed, state->room->workspaces[static_cast<std::size_t>(part.index)], given,
                embeddings, part, progress);
            if (may_pause) {
                state->progress = progress;
                is_done = ended;
            }
        });
        if (!is_done) {
            *rest = state.release();
            return;
        }
        model->give_back(std::move(state->room));
    });
}

std::int32_t embedrt_block(const embedrt_model *model, std::uint64_t index, embedrt_array *block) {
    if (model == nullptr || block == nullptr || index >= model->arena.block_count()) {
        return EMBEDRT_INVALID;
    }
    *block = {model->arena.block(index), model->arena.used(index)};
    return EMBEDRT_OK;
}

void embedrt_drop(embedrt_rest *rest) { delete rest; }

void embedrt_destroy(embedrt_model *model) { delete model; }

std::int32_t embedrt_apply(const char *path, std::int32_t which, const float *values,
                           float *results, std::int64_t count) {
    const Path *found = path == nullptr || values == nullptr || results == nullptr
                            ? nullptr
                            : embedrt::find_path(path, embedrt::processor_features());
    if (found == nullptr) return EMBEDRT_UNSUPPORTED;
    return found->apply(which, values, results, count) ? EMBEDRT_OK : EMBEDRT_INVALID;
}

std::int32_t embedrt_peak(std::int32_t which, double *rate) {
    return rate != nullptr && embedrt::measure_peak(which, *rate) ? EMBEDRT_OK : EMBEDRT_INVALID;
}

}  // extern "C"

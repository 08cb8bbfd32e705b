// What all programs share: types, loads and stores, and where a row begins.
{% if job.exact %}
#pragma OPENCL FP_CONTRACT OFF
{% else %}
#pragma OPENCL FP_CONTRACT ON
{% endif %}
{% if job.needs_float64 %}
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
{% endif %}

typedef {{ job.source_type }} source_t;
typedef {{ job.sum_type }} sum_t;
typedef {{ job.target_type }} target_t;

{% macro vector_of(element, width) %}{{ element }}{{ width if width > 1 else "" }}{% endmacro %}
{% set sum_vector = vector_of(job.sum_type, job.vector_width) %}
{% set source_vector = vector_of(job.source_type, job.vector_width) %}
{% set target_vector = vector_of(job.target_type, job.vector_width) %}
typedef {{ sum_vector }} sums_t;
{% if job.vector_width == 1 %}
#define LOAD(place) ((sum_t)*(place))
#define STORE(place, sums) *(place) = TO_TARGET(sums)
{% elif job.loose_pointers %}
// Vectors at any element: such pointers load several times faster than vloadn on some compilers.
typedef {{ source_vector }} __attribute__((aligned(sizeof(source_t)))) loose_source_t;
typedef {{ target_vector }} __attribute__((aligned(sizeof(target_t)))) loose_target_t;
#define LOAD(place) convert_{{ sum_vector }}(*(__global const loose_source_t *)(place))
#define STORE(place, sums) *(__global loose_target_t *)(place) = TO_TARGETS(sums)
{% else %}
#define LOAD(place) convert_{{ sum_vector }}(vload{{ job.vector_width }}(0, place))
#define STORE(place, sums) vstore{{ job.vector_width }}(TO_TARGETS(sums), 0, place)
{% endif %}
{% if job.is_streamed %}
// Past the cache: an ordinary store would read the line first. Rows that do not begin and end with lines are gathered, and
// stored line by line: one of which a part is stored past the cache and another through it goes to memory and back between.
#define ARE_GATHERED (!has_whole_rows || (ulong)target % {{ job.line_bytes }})
#define STORE_STREAMED(place, sums) __builtin_nontemporal_store(TO_TARGETS(sums), (__global {{ target_vector }} *)(place))
#define STORE_LAST(place, gathering, sums)                                                              \
    do {                                                                                                \
        if (are_gathered)                                                                               \
            *(__local loose_target_t *)(gathering) = TO_TARGETS(sums);                                     \
        else                                                                                            \
            STORE_STREAMED(place, sums);                                                                \
    } while (0)
#define STORE_GATHERED(to, pitch, rows, width)                      \
    do {                                                            \
        if (are_gathered)                                           \
            store_rows(to, pitch, gathered, rows, width);           \
    } while (0)

inline void store_run(__global target_t *to, __local const target_t *from, int count) {
    int i = 0;
    for (; i < count && (ulong)(to + i) % {{ job.line_bytes }}; i++)
        to[i] = from[i];
    for (; i + {{ job.line_vectors * job.vector_width }} <= count; i += {{ job.line_vectors * job.vector_width }}) {
{% for v in range(job.line_vectors) %}
        const {{ target_vector }} part{{ v }} = *(__local const loose_target_t *)(from + i + {{ v * job.vector_width }});
{% endfor %}
{% for v in range(job.line_vectors) %}
        __builtin_nontemporal_store(part{{ v }}, (__global {{ target_vector }} *)(to + i + {{ v * job.vector_width }}));
{% endfor %}
    }
    for (; i < count; i++)
        to[i] = from[i];
}

inline void store_rows(__global target_t *to, long pitch, __local const target_t *from, int rows, int width) {
    // Rows without gaps are one.
    const int runs = pitch == width ? 1 : rows, run = pitch == width ? rows * width : width;
    for (int r = 0; r < runs; r++)
        store_run(to + r * pitch, from + r * run, run);
}
{% else %}
#define ARE_GATHERED false
#define STORE_LAST(place, gathering, sums) STORE(place, sums)
#define STORE_GATHERED(to, pitch, rows, width)
{% endif %}
{% if job.loose_pointers %}
#define PREFETCH(place, level) __builtin_prefetch((const void *)(ulong)(place), 0, level)
#define FETCH_TO_STORE(place) __builtin_prefetch((const void *)(ulong)(place), 1, 3)
{% else %}
#define PREFETCH(place, level)
#define FETCH_TO_STORE(place)
{% endif %}
{% if job.is_rounded %}
{% macro nearest(name, type) %}
inline {{ type }} {{ name }}({{ type }} sums) {
    const {{ type }} low = {{ job.target_limits[0] }}, high = {{ job.target_limits[1] }}, nearest = rint(sums);
    return nearest != nearest ? 0 : nearest < low ? low : nearest > high ? high : nearest;
}
{% endmacro %}
// The nearest, the even one of two, within the limits; 0 for NaN, which PoCL's own saturated conversions give -128.
{{ nearest("nearest_one", "sum_t") }}
#define TO_TARGET(sum) ((target_t)(int)nearest_one(sum))
{% if job.vector_width > 1 %}
{{ nearest("nearest_ones", "sums_t") }}
#define TO_TARGETS(sums) convert_{{ target_vector }}(convert_{{ vector_of("int", job.vector_width) }}(nearest_ones(sums)))
{% endif %}
{% elif job.target_is_integer and job.sum_type == "float" %}
// Such sums are known to fit.
#define TO_TARGET(sum) ((target_t)(int)(sum))
#define TO_TARGETS(sums) convert_{{ target_vector }}(convert_{{ vector_of("int", job.vector_width) }}(sums))
{% elif job.target_is_integer %}
{% set long_vector, int_vector = vector_of("long", job.vector_width), vector_of("int", job.vector_width) %}
// As C casts a double: cut off towards zero, then wrapped around.
{% if job.on_cpu %}
#define CUT_OFF(sum) ((long)(sum))
{% else %}
// What does not fit becomes the smallest value, as x86-64's instruction has it; GPUs have the nearest, and 0 for NaN.
inline long cut_off(sum_t sum) { return sum >= (sum_t)LONG_MIN && sum < -(sum_t)LONG_MIN ? (long)sum : LONG_MIN; }
#define CUT_OFF(sum) cut_off(sum)
{% endif %}
{% if job.target_type in ("int", "short", "ushort", "char", "uchar") %}
// scipy's come from a 32-bit register, which holds its smallest value where a sum does not fit.
inline long in_register(long sum) { return sum == (long)(int)sum ? sum : (long)INT_MIN; }
{% if job.vector_width > 1 %}
inline {{ long_vector }} all_in_register({{ long_vector }} sums) {
    return sums == convert_{{ long_vector }}(convert_{{ int_vector }}(sums)) ? sums : ({{ long_vector }})(INT_MIN);
}
{% endif %}
#define TO_TARGET(sum) ((target_t)in_register(CUT_OFF(sum)))
#define TO_TARGETS(sums) convert_{{ target_vector }}(all_in_register(convert_{{ long_vector }}(sums)))
{% else %}
#define TO_TARGET(sum) ((target_t)CUT_OFF(sum))
#define TO_TARGETS(sums) convert_{{ target_vector }}(convert_{{ long_vector }}(sums))
{% endif %}
{% else %}
#define TO_TARGET(sum) ((target_t)(sum))
#define TO_TARGETS(sums) convert_{{ target_vector }}(sums)
{% endif %}
// Between two passes voxels have the dtype of the target, as if each pass had an array of its own, until they are rounded.
typedef {{ job.between_type }} between_t;
{% if job.is_rounded %}
#define TO_BETWEEN(sum) (sum)
#define TO_BETWEENS(sums) (sums)
{% else %}
#define TO_BETWEEN(sum) TO_TARGET(sum)
#define TO_BETWEENS(sums) TO_TARGETS(sums)
{% endif %}

// A place, shifted back where what begins there would be beyond the end. PoCL calls min as a function, for which all
// vector registers are saved.
#define WITHIN(place, last) ((place) < 0 ? 0 : (place) > (last) ? (last) : (place))

// The sum of a box by its addition chain: sums wait for later neighbours, `completed` says how many each voxel completes;
// `part(i)` is voxel i.
#define SUM_AS_BOX(type, sum, count, part, completed) {              \
        type waiting[32];                                              \
        int top = 0;                                                   \
        for (int i = 0; i < (count); i++) {                            \
            type longer = part(i);                                     \
            for (long left = (completed)[i]; left > 0; left--)         \
                longer = waiting[--top] + longer;                      \
            waiting[top++] = longer;                                   \
        }                                                              \
        sum = waiting[0] + 0;                                          \
    }

// Move both pointers to the beginning of a row. `axes` holds, for each outer axis from the innermost,
// its extent, its pitch in the source and its pitch in the target, in elements.
inline void find_row(long row, int axis_count, __global const long *axes, long *source, long *target) {
    for (int axis = 0; axis < axis_count; axis++, axes += 3) {
        const long place = row % axes[0];
        row /= axes[0];
        *source += place * axes[1];
        *target += place * axes[2];
    }
}

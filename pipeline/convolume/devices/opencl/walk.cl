// One axis after the other in one walk through memory: a work item owns {{ job.rows }} rows along a and all of x, and walks along b.
// The pass along a reads the source and fills a ring of rows, the pass along b reads the ring, the pass along x one
// line whose two ends are filled. What lies beyond a face is a place in a list, so nothing is copied to be padded.
{% include "common.cl" %}
{% set width = job.vector_width %}
{% set span = width * job.vectors %}
{% set sum_vector, target_vector = job.sum_type ~ width, job.target_type ~ width %}

// Between two passes voxels have the dtype of the target, as if each pass had an array of its own.
{% if job.loose_pointers %}
#define LOAD_LOCAL(place) convert_{{ sum_vector }}(*(__local const loose_target_t *)(place))
#define STORE_LOCAL(place, sums) *(__local loose_target_t *)(place) = TO_TARGETS(sums)
{% else %}
#define LOAD_LOCAL(place) convert_{{ sum_vector }}(vload{{ width }}(0, place))
#define STORE_LOCAL(place, sums) vstore{{ width }}(TO_TARGETS(sums), 0, place)
{% endif %}
{% if job.streams %}
// Past the cache: an ordinary store would read the line first.
#define STORE_LAST(place, sums) __builtin_nontemporal_store(TO_TARGETS(sums), (__global {{ target_vector }} *)(place))
{% else %}
#define STORE_LAST(place, sums) STORE(place, sums)
{% endif %}

// Line i of those that neighbouring outputs need, and a vector of it: from the source, from the ring.
#define LINE_A(i) const long row = rows[i]; PREFETCH(from + row + x + ahead)
#define LOAD_A(v) (row < 0 ? (sums_t)(outside_a) : LOAD(from + row + x + (v)))
#define LINE_B(i) __local const target_t *line = column + (oldest + (i) - (oldest + (i) < slots ? 0 : slots)) * slot_size
#define LOAD_B(v) LOAD_LOCAL(line + (v))
{% if job.loose_pointers %}
#define PREFETCH(place) __builtin_prefetch((const void *)(ulong)(place))
{% else %}
#define PREFETCH(place)
{% endif %}

{% macro zero_sums(outputs) %}
{% for o in range(outputs) %}
sums_t {% for v in range(job.vectors) %}sum{{ o }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% endmacro %}
{# Line i of the pass `name` is tap i - o of output o. #}
{% macro weigh_line(name, i, outputs) %}
{
    LINE_{{ name | upper }}({{ i }});
{% for v in range(job.vectors) %}
    const sums_t part{{ v }} = LOAD_{{ name | upper }}({{ v * width }});
{% endfor %}
{% for o in outputs %}
    const sum_t weight{{ o }} = weights_{{ name }}[{{ i }} - {{ o }}];
{% for v in range(job.vectors) %}
    sum{{ o }}_{{ v }} += part{{ v }} * weight{{ o }};
{% endfor %}
{% endfor %}
}
{% endmacro %}
{# Every output meets its taps in ascending order. #}
{% macro weigh_lines(name, taps, count) %}
{% if taps.are_looped %}
{% for i in range(count - 1) %}
{{ weigh_line(name, i, range(i + 1)) }}
{%- endfor %}
for (int i = {{ count - 1 }}; i < extent_{{ name }}; i++)
{{ weigh_line(name, "i", range(count)) }}
{%- for o in range(1, count) %}
{{ weigh_line(name, "extent_" ~ name ~ " + " ~ (o - 1), range(o, count)) }}
{%- endfor %}
{% else %}
{% for i, outputs in taps.lines(count) %}
{{ weigh_line(name, i, outputs) }}
{%- endfor %}
{% endif %}
{% endmacro %}
{% macro weigh_along_x(i) %}
{
    const sum_t weight = weights_x[{{ i }}];
{% for u in range(job.steps) %}
{% for v in range(job.vectors) %}
    sum{{ u }}_{{ v }} += LOAD_LOCAL(lines + {{ u }} * line_pitch + x + {{ i }} + {{ v * width }}) * weight;
{% endfor %}
{% endfor %}
}
{% endmacro %}
{% macro each_sum(count) %}
{% for o in range(count) %}
{% for v in range(job.vectors) %}
{{ caller(o, v) }}
{%- endfor %}
{% endfor %}
{% endmacro %}
__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const long *axes, int axis_count, int extent_a, int extent_b, int extent_x,
                        int height, int depth, int width_read, int width, int ends_before, int ends_after,
                        int slots, int row_pitch, int line_pitch, long ahead, long target_a, long target_b,
                        sum_t outside_a, sum_t outside_b, sum_t outside_x, __local target_t *ring) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(2), axis_count, axes, &source_start, &target_start);
    // Last rows, steps and spans are shifted back over their neighbours: the same voxels again, to the same bits.
    const int a = min((int)get_global_id(0) * {{ job.rows }}, height - {{ job.rows }});
    const int start = (long)depth * get_global_id(1) / get_global_size(1);
    const int stop = (long)depth * (get_global_id(1) + 1) / get_global_size(1);
    __global const sum_t *weights_a = weights, *weights_b = weights + extent_a, *weights_x = weights_b + extent_b;
    __global const long *places_b = places + height + extent_a - 1;
    __global const long *ends = places_b + depth + extent_b - 1;
    const int slot_size = {{ job.rows }} * row_pitch;
    __local target_t *lines = ring + slots * slot_size;
    int filled = start;

    for (int begin = start; begin < stop; begin += {{ job.steps }}) {
        const int b = min(begin, stop - {{ job.steps }});
        for (; filled < b + {{ job.steps - 1 }} + extent_b; filled++) {
            __local target_t *slot = ring + (filled - start) % slots * slot_size;
            if (places_b[filled] < 0) {
                for (int i = 0; i < slot_size; i++)
                    slot[i] = TO_TARGET(outside_b);
                continue;
            }
            __global const source_t *from = source + source_start + places_b[filled];
            for (int next = 0; next < width_read; next += {{ span }}) {
                const int x = min(next, width_read - {{ span }});
                for (int group = 0; group < {{ job.rows }}; group += {{ job.group }}) {
                    __global const long *rows = places + a + group;
{% if job.a %}
{{ zero_sums(job.group) | indent(20, true) }}
{{ weigh_lines("a", job.a, job.group) | indent(20, true) }}
{% call(o, v) each_sum(job.group) %}
                    STORE_LOCAL(slot + (group + {{ o }}) * row_pitch + x + {{ v * width }}, sum{{ o }}_{{ v }});
{% endcall %}
{% else %}
                    LINE_A(0);
{% for v in range(job.vectors) %}
                    STORE_LOCAL(slot + x + {{ v * width }}, LOAD_A({{ v * width }}));
{% endfor %}
{% endif %}
                }
            }
        }
        const int oldest = (b - start) % slots;
        for (int r = 0; r < {{ job.rows }}; r++) {
            __global target_t *to = target + target_start + (a + r) * target_a + b * target_b;
            for (int next = 0; next < width_read; next += {{ span }}) {
                const int x = min(next, width_read - {{ span }});
                __local const target_t *column = ring + r * row_pitch + x;
{{ zero_sums(job.steps) | indent(16, true) }}
{{ weigh_lines("b", job.b, job.steps) | indent(16, true) }}
{% call(u, v) each_sum(job.steps) %}
{% if job.x %}
                STORE_LOCAL(lines + {{ u }} * line_pitch + ends_before + x + {{ v * width }}, sum{{ u }}_{{ v }});
{% else %}
                STORE_LAST(to + {{ u }} * target_b + x + {{ v * width }}, sum{{ u }}_{{ v }});
{% endif %}
{% endcall %}
            }
{% if job.x %}
            for (int u = 0; u < {{ job.steps }}; u++) {
                __local target_t *line = lines + u * line_pitch;
                __local const target_t *inside = line + ends_before;
                for (int i = 0; i < ends_before + ends_after; i++)
                    line[i < ends_before ? i : i + width_read] = ends[i] < 0 ? TO_TARGET(outside_x) : inside[ends[i]];
            }
            for (int next = 0; next < width; next += {{ span }}) {
                const int x = min(next, width - {{ span }});
{{ zero_sums(job.steps) | indent(16, true) }}
{% if job.x.are_looped %}
                for (int i = 0; i < extent_x; i++)
{{ weigh_along_x("i") | indent(16, true) }}
{% else %}
{% for i in job.x.offsets %}
{{ weigh_along_x(i) | indent(16, true) }}
{% endfor %}
{% endif %}
{% call(u, v) each_sum(job.steps) %}
                STORE_LAST(to + {{ u }} * target_b + x + {{ v * width }}, sum{{ u }}_{{ v }});
{% endcall %}
            }
{% endif %}
        }
    }
}

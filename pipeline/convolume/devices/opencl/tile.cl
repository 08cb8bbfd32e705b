// For GPUs: a work group marches along b and holds in local memory the part of one plane (a, x) that it needs, faces
// filled by lists of places, while the part of the next is on its way into registers.
{% include "common.cl" %}
{% set area = job.tile_width * job.tile_height %}
{% set extent_b, extent_a, extent_x = job.extents %}
{% macro weight(place) %}weights{{ ".at" if job.weights_by_value }}[{{ place }}]{% endmacro %}
{% macro load_parts() %}
ahead = source + plane;
{% for i in range(job.loads) %}
part{{ i }} = plane < 0 || from{{ i }} < 0 ? outside_a : (sum_t)ahead[from{{ i }}];
{% endfor %}
{% endmacro %}
{# Plane b is tap extent_b - 1 - j of output j: the oldest output, 0, meets its last. #}
{% macro weigh_along_b(row, value, first, planes) %}
{% for j in range(extent_b) if extent_b - 1 - j in planes %}
sum{{ row }}_{{ j }} += {{ value }} * {{ weight(first + (extent_b - 1 - j) * job.weights_a_plane) }};
{% endfor %}
{% endmacro %}
{# A box of planes as they come: its later neighbours end with this one, the earlier ones were summed as many planes ago. #}
{% macro box_along_b(row) %}
const sum_t box1_{{ row }}_0 = along{{ row }};
{% for first, second in additions(extent_b) %}
const sum_t box{{ first + second }}_{{ row }}_0 = box{{ first }}_{{ row }}_{{ second }} + box{{ second }}_{{ row }}_0;
{% endfor %}
const sum_t sum{{ row }}_0 = (box{{ extent_b }}_{{ row }}_0 + 0) * {{ weight(0) }};
{% endmacro %}
{# A pass over values that are all there, from the first that it reads; what it gives has the name of the sum. #}
{% macro weigh(sum, name, first, along, as_box, first_weight) %}
{% if as_box %}
const sum_t {{ sum }} = ({{ box_sum(along | length, {1: name ~ "%d"}, first) }} + 0) * {{ weight(first_weight) }};
{% else %}
sum_t {{ sum }} = {{ 0 if along else name ~ first }};
{% for i in along %}
{{ sum }} += {{ name }}{{ first + i }} * {{ weight(first_weight + i) }};
{% endfor %}
{% endif %}
{% endmacro %}

{% if job.weights_by_value %}
// As a whole they are operands of the multiply-adds; behind a pointer each would take a register first.
typedef struct { sum_t at[{{ job.weight_count }}]; } weights_t;
{% endif %}
// What lies within a plane.
typedef {{ "long" if job.wide_planes else "int" }} place_t;
{% if job.along_x %}
typedef {{ job.sum_type }}4 four_sums_t;
typedef {{ job.target_type }}4 four_targets_t;
{% endif %}

// Where a voxel of the tile stands in a plane of the source; below 0 beyond a face.
inline place_t place_in_plane(int voxel, __global const long *places_a, int count_a,
                              __global const long *places_x, int count_x) {
    const long a = places_a[min(voxel / {{ job.tile_width }}, count_a - 1)];
    const long x = places_x[min(voxel % {{ job.tile_width }}, count_x - 1)];
    return (a | x) < 0 ? -1 : (place_t)(a + x);
}

__attribute__((reqd_work_group_size({{ job.columns }}, {{ job.lines }}, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        {{ "const weights_t weights" if job.weights_by_value else "__constant sum_t *restrict weights" }}, __global const long *restrict places,
                        __global const long *restrict outer, int depth, int height, int width, int segments,
                        long target_b, long target_a, sum_t outside_b, sum_t outside_a, sum_t outside_x,
                        long source_start, long target_start) {
    __local sum_t tiles[{{ 2 * area }}];
{% if job.along_x %}
    __local four_sums_t strip[{{ job.strip_voxels // 4 }}];
{% endif %}
    const int column = get_local_id(0), line = get_local_id(1) * {{ job.rows }};
    const int item = get_local_id(1) * {{ job.columns }} + column;
    // Groups stand in one line: x first, then a, the segments of a march, and images.
    const int across = (width + {{ job.outputs_x - 1 }}) / {{ job.outputs_x }};
    const int along = (height + {{ job.outputs_a - 1 }}) / {{ job.outputs_a }};
    const int tile_in_plane = get_group_id(0) % (across * along), march = get_group_id(0) / (across * along);
    const int first_x = tile_in_plane % across * {{ job.outputs_x }};
    const int first_a = tile_in_plane / across * {{ job.outputs_a }};
    const int segment = march % segments, image = march / segments;
    const int start = (long)depth * segment / segments, stop = (long)depth * (segment + 1) / segments;
    __global const long *places_a = places + depth + {{ extent_b - 1 }};
    __global const long *places_x = places_a + height + {{ extent_a - 1 }};
    source += source_start + outer[2 * image];
    target += target_start + outer[2 * image + 1] + start * target_b + first_a * target_a + first_x;
    const int count_a = height + {{ extent_a - 1 }} - first_a, count_x = width + {{ extent_x - 1 }} - first_x;
{% for i in range(job.loads) %}
    const place_t from{{ i }} = place_in_plane(item + {{ i * job.work_items }}, places_a + first_a, count_a, places_x + first_x, count_x);
    sum_t part{{ i }};
{% endfor %}
{% if job.along_x %}
    const bool is_beyond_x = places_x[first_x + min(column, count_x - 1)] < 0;
{% endif %}
{% for row in range(job.rows) %}
{% for name, planes in job.kept %}
    sum_t {% for j in range(planes) %}{{ name }}{{ row }}_{{ j + job.as_box[0] }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% endfor %}

    long plane = places[start];
    __global const source_t *ahead;
{{ load_parts() | indent(4, true) }}
    for (int b = start; b < stop + {{ extent_b - 1 }}; b++) {
        __local sum_t *tile = tiles + (b & 1) * {{ area }};
{% for i in range(job.loads) %}
{% if (i + 1) * job.work_items > area %}
        if (item + {{ i * job.work_items }} < {{ area }})
            tile[item + {{ i * job.work_items }}] = part{{ i }};
{% else %}
        tile[item + {{ i * job.work_items }}] = part{{ i }};
{% endif %}
{% endfor %}
        barrier(CLK_LOCAL_MEM_FENCE);
{% if job.is_chain %}
        const bool is_beyond_b = plane < 0;
{% endif %}
        if (b + 1 < stop + {{ extent_b - 1 }}) {
            plane = places[b + 1];
{{ load_parts() | indent(12, true) }}
        }
        const bool is_whole = b >= start + {{ extent_b - 1 }};
        __local const sum_t *near = tile + line * {{ job.tile_width }} + column;
{% if job.is_chain %}

        // The pass along a, then the one along b.
{% for i in range(job.rows + extent_a - 1) %}
        const sum_t voxel{{ i }} = near[{{ i * job.tile_width }}];
{% endfor %}
{% for row in range(job.rows) %}
{{ weigh("along_a" ~ row, "voxel", row, job.along_a, job.as_box[1], extent_b) | indent(8, true) }}
        const sum_t along{{ row }} = is_beyond_b ? outside_b : {{ "(sum_t)TO_TARGET(along_a%d)" % row if job.along_a else "along_a%d" % row }};
{% if job.as_box[0] %}
{{ box_along_b(row) | indent(8, true) }}
{% elif job.along_b %}
{{ weigh_along_b(row, "along" ~ row, 0, job.along_b) | indent(8, true) }}
{% else %}
        const sum_t sum{{ row }}_0 = along{{ row }};
{% endif %}
{% endfor %}
{% else %}
{% for columns in job.tile_lines %}
{% set tile_line = loop.index0 %}
{% for x, uses in columns %}
        {
            const sum_t part = near[{{ tile_line * job.tile_width + x }}];
{% for row, planes in uses %}
{{ weigh_along_b(row, "part", (tile_line - row) * extent_x + x, planes) | indent(12, true) }}
{%- endfor %}
        }
{% endfor %}
{% endfor %}
{% endif %}
{% if job.along_x %}

        // The pass along x, of four neighbours at a time.
{% for row in range(job.rows) %}
        ((__local sum_t *)strip)[(line + {{ row }}) * {{ job.columns }} + column] = is_beyond_x ? outside_x : {{ "(sum_t)TO_TARGET(sum%d_0)" % row if job.along_b else "sum%d_0" % row }};
{% endfor %}
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int four = item; is_whole && four < {{ job.outputs_a * job.fours }}; four += {{ job.work_items }}) {
            const int a = four / {{ job.fours }}, x = four % {{ job.fours }} * 4, left = width - first_x - x;
            if (first_a + a >= height || left <= 0)
                continue;
            __local const four_sums_t *beside = strip + a * {{ job.columns // 4 }} + x / 4;
{% for i in range(0, extent_x + 3, 4) %}
            const four_sums_t beside{{ i }} = beside[{{ i // 4 }}];
            const sum_t {% for j in range(4) %}voxel_x{{ i + j }} = beside{{ i }}.s{{ j }}{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for j in range(4) %}
{{ weigh("along_x%d" % j, "voxel_x", j, job.along_x, job.as_box[2], extent_b + extent_a) | indent(12, true) }}
{% endfor %}
            __global target_t *there = target + a * target_a + x;
            if (left >= 4 && (ulong)there % sizeof(four_targets_t) == 0) {
                *(__global four_targets_t *)there = (four_targets_t)({% for j in range(4) %}TO_TARGET(along_x{{ j }}){{ ", " if not loop.last }}{% endfor %});
                continue;
            }
{% for j in range(4) %}
            if ({{ j }} < left)
                there[{{ j }}] = TO_TARGET(along_x{{ j }});
{% endfor %}
        }
{% else %}

        if (is_whole && first_x + column < width) {
            __global target_t *there = target + line * target_a + column;
{% for row in range(job.rows) %}
            if (first_a + line + {{ row }} < height)
                *there = TO_TARGET(sum{{ row }}_0);
{{ "            there += target_a;
" if not loop.last -}}
{% endfor %}
        }
{% endif %}
        target += is_whole ? target_b : 0;
{% for row in range(job.rows) %}
{% if job.as_box[0] %}
{% for name, planes in job.kept %}
{% for j in range(planes, 0, -1) %}
        {{ name }}{{ row }}_{{ j }} = {{ name }}{{ row }}_{{ j - 1 }};
{% endfor %}
{% endfor %}
{% elif job.along_b or not job.is_chain %}
{% for j in range(extent_b) %}
        sum{{ row }}_{{ j }} = {{ "sum" ~ row ~ "_" ~ (j + 1) if not loop.last else "0" }};
{% endfor %}
{% endif %}
{% endfor %}
    }
}

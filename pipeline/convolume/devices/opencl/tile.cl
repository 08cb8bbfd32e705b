// For GPUs: a work group marches along b and holds in local memory the part of one plane (a, x) that it needs, faces
// filled by lists of places, while the part of the next is on its way into registers.
{% include "common.cl" %}
{% set threads = job.columns * job.lines %}
{% set area = job.tile_width * job.tile_height %}
{% set extent_b, extent_a, extent_x = job.extents %}
{% macro load_parts() %}
{% for i in range(job.loads) %}
part{{ i }} = (plane | from{{ i }}) < 0 ? outside_a : (sum_t)source[plane + from{{ i }}];
{% endfor %}
{% endmacro %}
{# Plane b is tap extent_b - 1 - j of output j: the oldest output, 0, meets its last. #}
{% macro weigh_along_b(row, value, weights, planes) %}
{% for j in range(extent_b) if extent_b - 1 - j in planes %}
sum{{ row }}_{{ j }} += {{ value }} * {{ weights }}[{{ (extent_b - 1 - j) * job.weights_a_plane }}];
{% endfor %}
{% endmacro %}

// Where a voxel of the tile stands in a plane of the source; below 0 beyond a face.
inline long place_in_plane(int voxel, __global const long *places_a, int count_a,
                           __global const long *places_x, int count_x) {
    const long a = places_a[min(voxel / {{ job.tile_width }}, count_a - 1)];
    const long x = places_x[min(voxel % {{ job.tile_width }}, count_x - 1)];
    return (a | x) < 0 ? -1 : a + x;
}

__attribute__((reqd_work_group_size({{ job.columns }}, {{ job.lines }}, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __constant sum_t *restrict weights, __global const long *restrict places,
                        __global const long *restrict outer, int depth, int height, int width, int segments,
                        long target_b, long target_a, sum_t outside_b, sum_t outside_a, sum_t outside_x,
                        long source_start, long target_start) {
    __local sum_t tiles[{{ 2 * area }}];
{% if job.is_chain %}
    __local sum_t strip[{{ job.columns * job.lines * job.rows + extent_x - 1 }}];
{% endif %}
    const int column = get_local_id(0), line = get_local_id(1) * {{ job.rows }};
    const int item = get_local_id(1) * {{ job.columns }} + column;
    // Groups stand in one line: x first, then a, the segments of a march, and images.
    const int across = (width + {{ job.outputs_x - 1 }}) / {{ job.outputs_x }};
    const int along = (height + {{ job.lines * job.rows - 1 }}) / {{ job.lines * job.rows }};
    const int tile_in_plane = get_group_id(0) % (across * along), march = get_group_id(0) / (across * along);
    const int first_x = tile_in_plane % across * {{ job.outputs_x }};
    const int first_a = tile_in_plane / across * {{ job.lines * job.rows }};
    const int segment = march % segments, image = march / segments;
    const int start = (long)depth * segment / segments, stop = (long)depth * (segment + 1) / segments;
    const int x = first_x + column;
    __global const long *places_a = places + depth + {{ extent_b - 1 }};
    __global const long *places_x = places_a + height + {{ extent_a - 1 }};
    source += source_start + outer[2 * image];
    target += target_start + outer[2 * image + 1] + (long)(first_a + line) * target_a + x;
    const int count_a = height + {{ extent_a - 1 }} - first_a, count_x = width + {{ extent_x - 1 }} - first_x;
{% for i in range(job.loads) %}
    const long from{{ i }} = place_in_plane(item + {{ i * threads }}, places_a + first_a, count_a, places_x + first_x, count_x);
    sum_t part{{ i }};
{% endfor %}
{% if job.is_chain %}
    const bool is_beyond_x = places_x[min(x, width + {{ extent_x - 2 }})] < 0;
{% endif %}
{% for row in range(job.rows) %}
    sum_t {% for j in range(extent_b) %}sum{{ row }}_{{ j }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}

    long plane = places[start];
{{ load_parts() | indent(4, true) }}
    for (int b = start; b < stop + {{ extent_b - 1 }}; b++) {
        __local sum_t *tile = tiles + (b & 1) * {{ area }};
{% for i in range(job.loads) %}
{% if (i + 1) * threads > area %}
        if (item + {{ i * threads }} < {{ area }})
            tile[item + {{ i * threads }}] = part{{ i }};
{% else %}
        tile[item + {{ i * threads }}] = part{{ i }};
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
        __local const sum_t *near = tile + line * {{ job.tile_width }} + column;
{% if job.is_chain %}

        // The pass along a, then the one along b.
{% for row in range(job.rows) %}
        sum_t along{{ row }} = {{ "0" if job.along_a else "near[" ~ row * job.tile_width ~ "]" }};
{% endfor %}
{% for i in range(job.rows + extent_a - 1) if job.along_a %}
        {
            const sum_t part = near[{{ i * job.tile_width }}];
{% for row in range(job.rows) if i - row in job.along_a %}
            along{{ row }} += part * weights[{{ extent_b + i - row }}];
{% endfor %}
        }
{% endfor %}
{% for row in range(job.rows) %}
        along{{ row }} = is_beyond_b ? outside_b : {{ "(sum_t)TO_TARGET(along" ~ row ~ ")" if job.along_a else "along" ~ row }};
{{ weigh_along_b(row, "along" ~ row, "weights", job.along_b) | indent(8, true) }}
        strip[(line + {{ row }}) * {{ job.columns }} + column] = is_beyond_x ? outside_x : (sum_t)TO_TARGET(sum{{ row }}_0);
{% endfor %}
        barrier(CLK_LOCAL_MEM_FENCE);
{% else %}
{% for columns in job.tile_lines %}
{% set tile_line = loop.index0 %}
{% for x, uses in columns %}
        {
            const sum_t part = near[{{ tile_line * job.tile_width + x }}];
{% for row, planes in uses %}
{{ weigh_along_b(row, "part", "(weights + " ~ ((tile_line - row) * extent_x + x) ~ ")", planes) | indent(12, true) }}
{%- endfor %}
        }
{% endfor %}
{% endfor %}
{% endif %}

        if (b >= start + {{ extent_b - 1 }} && column < {{ job.outputs_x }} && x < width) {
            __global target_t *to = target + (b - {{ extent_b - 1 }}) * target_b;
{% for row in range(job.rows) %}
            if (first_a + line + {{ row }} < height) {
{% if job.is_chain %}
                __local const sum_t *beside = strip + (line + {{ row }}) * {{ job.columns }} + column;
                sum_t sum = {{ "0" if job.along_x else "*beside" }};
{% for i in job.along_x %}
                sum += beside[{{ i }}] * weights[{{ extent_b + extent_a + i }}];
{% endfor %}
                to[{{ row }} * target_a] = TO_TARGET(sum);
{% else %}
                to[{{ row }} * target_a] = TO_TARGET(sum{{ row }}_0);
{% endif %}
            }
{% endfor %}
        }
{% for row in range(job.rows) %}
{% for j in range(extent_b) %}
        sum{{ row }}_{{ j }} = {{ "sum" ~ row ~ "_" ~ (j + 1) if not loop.last else "0" }};
{% endfor %}
{% endfor %}
    }
}

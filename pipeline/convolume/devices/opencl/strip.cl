// One stencil: a work item computes {{ job.rows }} rows, neighbours along the stencil's last axis but x, x {{ job.vectors }} vectors of {{ job.vector_width }} voxels
// at a time, and walks along the axes before. A loaded vector serves every row that needs it; zero weights do not appear.
// What lies beyond a face is a place in a list, so nothing is copied to be padded but the ends of lines.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}

// Outputs from x on. Of the columns that they read, low to high stand side by side in the source, `shift` from their number;
// where others do not, a copy of the line is filled.
typedef struct { int x, low, high, shift, copy; } span_t;

// Of the constant, where there is no line.
#define FILL(i) copy[i] = !line || columns[i] < 0 ? outside : line[columns[i]]
inline void fill(__global source_t *copy, __global const source_t *line, __global const long *columns, span_t span,
                 source_t outside) {
    const int high = line ? span.high : span.low;
    for (int i = span.x; i < span.low; i++)
        FILL(i);
    for (int next = span.low; next < high; next += {{ job.vector_width }}) {
        const int i = min(next, high - {{ job.vector_width }});
        COPY(line + columns[i], copy + i);
    }
    for (int i = high; i < span.x + {{ job.line_voxels }}; i++)
        FILL(i);
}

{% set planes = job.planes %}
typedef __global const source_t *lines_t[{{ planes }}];
__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const span_t *restrict spans, __global const source_t *restrict constants,
                        int steps, int groups_an_item, int span_count, int copies, int height, long target_pitch,
                        __global source_t *scratch) {
    const int first_row = get_global_id(0) * groups_an_item * {{ job.rows }};
    const int first_step = (long)steps * get_global_id(1) / get_global_size(1);
    const int last_step = (long)steps * (get_global_id(1) + 1) / get_global_size(1);
    __global const long *targets = places + (long)steps * {{ job.lines }};
    __global const long *columns = targets + steps + height + {{ planes - job.rows }};
    scratch += (get_global_id(1) * get_global_size(0) + get_global_id(0)) * copies * {{ job.scratch_voxels }};
    // Each line of each plane: where the source has it, and where the first of its copies is.
    __global const source_t *inside[{{ job.lines }}][{{ planes }}];
    __global source_t *copied[{{ job.lines }}][{{ planes }}];
    for (int line = 0; line < {{ job.lines }}; line++)
        for (int plane = 0; plane < {{ planes }}; plane++)
            copied[line][plane] = scratch + (line * {{ planes }} + plane) * {{ job.line_voxels }};
{% if job.lines > 1 %}
    long held[{{ job.lines }}];
    for (int line = 0; line < {{ job.lines }}; line++)
        held[line] = LONG_MIN;
{% endif %}

    for (int step = first_step; step < last_step; step++)
    for (int next_row = first_row; next_row < min(first_row + groups_an_item * {{ job.rows }}, height); next_row += {{ job.rows }}) {
        // The last rows and the last span are shifted back over their neighbours: the same voxels again, to the same bits.
        const int row = min(next_row, height - {{ job.rows }});
        __global const long *plane_places = targets + steps + row;
        __global const long *lines = places + (long)step * {{ job.lines }};
{% if job.lines > 1 %}
        // A step meets the lines of the one before again, one place further.
        for (int plane = 0; plane < {{ planes }}; plane++) {
            __global source_t *oldest = copied[0][plane];
            for (int line = 0; line < {{ job.lines - 1 }}; line++) {
                inside[line][plane] = inside[line + 1][plane];
                copied[line][plane] = copied[line + 1][plane];
            }
            copied[{{ job.lines - 1 }}][plane] = oldest;
        }
        for (int line = 0; line < {{ job.lines - 1 }}; line++)
            held[line] = held[line + 1];
        held[{{ job.lines - 1 }}] = LONG_MIN;
{% endif %}
        for (int line = 0; line < {{ job.lines }}; line++) {
{% if job.lines > 1 %}
            if (held[line] == lines[line])
                continue;
            held[line] = lines[line];
{% endif %}
            for (int plane = 0; plane < {{ planes }}; plane++) {
                const bool is_outside = plane_places[plane] < 0 || lines[line] < 0;
                __global const source_t *begin = source + plane_places[plane] + lines[line];
                inside[line][plane] = is_outside ? constants : begin + spans[0].shift;
                for (int s = 0; s < span_count; s++)
                    if (spans[s].copy >= 0)
                        fill(copied[line][plane] + spans[s].copy * {{ job.scratch_voxels }} - spans[s].x,
                             is_outside ? 0 : begin, columns, spans[s], constants[0]);
            }
        }
{% if job.lines > 1 %}
        const long ahead = lines[{{ job.lines - 1 }} + (step + 1 < last_step ? {{ job.lines }} : 0)];
{% endif %}
        for (int s = 0; s < span_count; s++) {
            const int x = spans[s].x, copy = spans[s].copy;
            const lines_t *from = copy < 0 ? inside : (const lines_t *)copied;
            const long offset = copy < 0 ? x : copy * {{ job.scratch_voxels }};
{% for row in range(job.rows) %}
            sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for run in job.runs %}
{% if run.stop - run.first > 1 %}
#pragma unroll 1
{% endif %}
            for (int line = {{ run.first }}; line < {{ run.stop }}; line++) {
                __global const sum_t *weight = weights + line * {{ job.line_weights }};
{% for plane, columns in run.planes %}
                {
                    __global const source_t *begin = from[line][{{ plane }}] + offset;
{% for column in columns %}
                    {
{% for v in range(job.vectors) %}
                        const sums_t part{{ v }} = LOAD(begin + {{ column.x + v * job.vector_width }});
{% endfor %}
{% for row, place in column.uses %}
{% for v in range(job.vectors) %}
                        sum{{ row }}_{{ v }} += part{{ v }} * weight[{{ place * job.plane_weights + column.x }}];
{% endfor %}
{% endfor %}
                    }
{% endfor %}
                }
{% endfor %}
            }
{% endfor %}
{% if job.lines > 1 %}
            // What the next step reads first.
{% for plane in range(planes) %}
{% for i in range(0, span, job.cache_line_voxels) %}
            PREFETCH(source + plane_places[{{ plane }}] + ahead + x + {{ i }}, {{ job.cache_level }});
{% endfor %}
{% endfor %}
{% endif %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
            STORE_LAST(target + targets[step] + (row + {{ row }}) * target_pitch + x, {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
        }
    }
}

// One stencil: a work item computes {{ job.rows }} rows, neighbours along the stencil's first axis, x {{ job.vectors }} vectors of {{ job.vector_width }} voxels
// at a time, and walks along the other axes. A loaded vector serves every row that needs it; zero weights do not appear.
// What lies beyond a face is a place in a list, so nothing is copied to be padded but the ends of lines.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}

// Outputs from x on. Of the columns that they read, low to high stand side by side in the source, `shift` from their number;
// where others do not, a copy of the line is filled.
typedef struct { int x, low, high, shift, copy; } span_t;

#define FILL(i) copy[i] = columns[i] < 0 ? outside : line[columns[i]]
inline void fill(__global source_t *copy, __global const source_t *line, __global const long *columns, span_t span,
                 source_t outside) {
    for (int i = span.x; i < span.low; i++)
        FILL(i);
    for (int next = span.low; next < span.high; next += {{ job.vector_width }}) {
        const int i = min(next, span.high - {{ job.vector_width }});
        COPY(line + columns[i], copy + i);
    }
    for (int i = span.high; i < span.x + {{ job.line_voxels }}; i++)
        FILL(i);
}

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const span_t *restrict spans, __global const source_t *restrict constants,
                        int steps, int spans_an_item, int span_count, int copies, int height, long target_pitch,
                        __global source_t *scratch) {
    // The last rows and the last span are shifted back over their neighbours: the same voxels again, to the same bits.
    const int row = min((int)get_global_id(1) * {{ job.rows }}, height - {{ job.rows }});
    const int first_span = get_global_id(0) * spans_an_item;
    const int first_step = (long)steps * get_global_id(2) / get_global_size(2);
    const int last_step = (long)steps * (get_global_id(2) + 1) / get_global_size(2);
    __global const long *targets = places + (long)steps * {{ job.lines }};
    __global const long *planes = targets + steps + row;
    __global const long *columns = planes - row + height + {{ job.planes | length - job.rows }};
    scratch += (get_global_id(2) * get_global_size(1) + get_global_id(1)) * copies * {{ job.scratch_voxels }};
    // Lines of the stencil are held where a next step meets them again, one place further: in which span, from where.
    long held[{{ job.lines }}];
    int held_in[{{ job.lines }}];
    __global const source_t *from[{{ job.lines }}][{{ job.planes | length }}];
    for (int line = 0; line < {{ job.lines }}; line++)
        held_in[line] = -1;

    for (int step = first_step; step < last_step; step++) {
        __global const long *lines = places + (long)step * {{ job.lines }};
        const long ahead = lines[{{ job.lines - 1 }} + (step + 1 < last_step ? {{ job.lines }} : 0)];
        for (int s = first_span; s < first_span + spans_an_item; s++) {
            const span_t span = spans[s];
            const int alike = span.copy < 0 ? span_count : s;
            for (int line = 0; line < {{ job.lines }}; line++) {
                const int slot = (step + line) % {{ job.lines }};
                if (held_in[slot] == alike && held[slot] == lines[line])
                    continue;
                held_in[slot] = alike;
                held[slot] = lines[line];
                for (int plane = 0; plane < {{ job.planes | length }}; plane++) {
                    __global source_t *copy = scratch + span.copy * {{ job.scratch_voxels }}
                        + (slot * {{ job.planes | length }} + plane) * {{ job.line_voxels }} - span.x;
                    __global const source_t *begin = source + planes[plane] + lines[line];
                    const bool is_outside = planes[plane] < 0 || lines[line] < 0;
                    from[slot][plane] = is_outside ? constants : span.copy < 0 ? begin + span.shift : copy;
                    if (span.copy >= 0 && !is_outside)
                        fill(copy, begin, columns, span, constants[0]);
                }
            }
            const int x = span.x, first_slot = step % {{ job.lines }};
{% for row in range(job.rows) %}
            sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for runs in job.planes %}
{% set plane = loop.index0 %}
{% for run in runs %}
{% if run.stop - run.first > 1 %}
#pragma unroll 1
{% endif %}
            for (int line = {{ run.first }}; line < {{ run.stop }}; line++) {
                const int slot = first_slot + line < {{ job.lines }} ? first_slot + line : first_slot + line - {{ job.lines }};
                __global const source_t *begin = from[slot][{{ plane }}] + x;
                __global const sum_t *weight = weights + line * {{ job.line_weights }};
{% for column in run.columns %}
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
{% if runs and job.lines > 1 %}
            // What the next step reads first.
{% for i in range(0, job.line_voxels, job.cache_line_voxels) %}
            PREFETCH(source + planes[{{ plane }}] + ahead + x + {{ i }});
{% endfor %}
{% endif %}
{% endfor %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
            STORE_LAST(target + targets[step] + (row + {{ row }}) * target_pitch + x + {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
        }
    }
}

#!/usr/bin/env nextflow
// Impute and annotate samples with the command `sct`, and collect their summaries in one table.
//
//     nextflow run main.nf --samples samples.csv --reference atlas.h5ad --labels_key cell_type
//
// samples.csv has the columns sample and cells: a name, and an .h5ad file.

nextflow.enable.dsl = 2

process IMPUTE {
    tag "${sample}"
    publishDir params.results, mode: 'copy'
    cpus 2

    input:
    tuple val(sample), path(cells, stageAs: 'input/*')

    output:
    tuple val(sample), path("${sample}.imputed.h5ad"), emit: cells
    path "${sample}.imputed.h5ad.summary.json", emit: summary
    path "${sample}.imputed.h5ad.summary.tsv"

    script:
    """
    sct impute '${cells}' --output '${sample}.imputed.h5ad' --model '${params.model}' \\
        --summary --threads ${task.cpus}
    """
}

process ANNOTATE {
    tag "${sample}"
    publishDir params.results, mode: 'copy'
    cpus 2

    input:
    tuple val(sample), path(cells)
    path(reference, stageAs: 'reference/*')

    output:
    path "${sample}.annotated.h5ad"
    path "${sample}.annotated.h5ad.summary.json", emit: summary
    path "${sample}.annotated.h5ad.summary.tsv"
    path "${sample}.labels.csv"

    script:
    """
    sct annotate '${cells}' --reference '${reference}' --labels-key '${params.labels_key}' \\
        --output '${sample}.annotated.h5ad' --obs-csv '${sample}.labels.csv' --model '${params.model}' \\
        --summary --threads ${task.cpus}
    """
}

process COLLECT {
    publishDir params.results, mode: 'copy'

    input:
    path script_file
    path summaries

    output:
    path 'summary.tsv'

    script:
    """
    python '${script_file}' --output summary.tsv *.summary.json
    """
}

workflow {
    if (!params.samples || !params.reference || !params.labels_key) {
        error "Give --samples (a CSV with the columns sample and cells), --reference and --labels_key."
    }
    samples = channel
        .fromPath(params.samples, checkIfExists: true)
        .splitCsv(header: true)
        .map { row -> tuple(row.sample, file(row.cells, checkIfExists: true)) }
    reference = file(params.reference, checkIfExists: true)

    IMPUTE(samples)
    ANNOTATE(IMPUTE.out.cells, reference)
    COLLECT(
        file("${projectDir}/../collect_summaries.py"),
        IMPUTE.out.summary.mix(ANNOTATE.out.summary).collect()
    )
}

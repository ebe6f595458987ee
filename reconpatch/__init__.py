"""ReConPatch (Hyun et al., WACV 2024) on top of PatchCore: one module a concept, in the order data flows.

config, plan -> data, sample, images -> backbones, patches, features -> recon, training -> coreset, memory
-> scoring -> metrics -> records -> tables, figures, report.
"""

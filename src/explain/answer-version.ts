/** The layout of answers, known without their schema, which is loaded for checking one only. */
export const ANSWER_SCHEMA_VERSION = 1

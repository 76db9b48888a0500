/** Label selectors, as in metav1.LabelSelector. */

export type Labels = Readonly<Record<string, string>>;

export const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;

export interface Requirement {
  key: string;
  operator: (typeof OPERATORS)[number];
  values: readonly string[];
}

/** A condition on an object's labels: all of its parts must hold. An empty selector holds for every object. */
export interface LabelSelector {
  matchLabels: Labels;
  matchExpressions: readonly Requirement[];
}

export function selects({ matchLabels, matchExpressions }: LabelSelector, labels: Labels): boolean {
  const labelled = (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined); // a label may be `toString`
  for (const key in matchLabels) if (labelled(key) !== matchLabels[key]) return false;
  return matchExpressions.every(({ key, operator, values }) => {
    const value = labelled(key);
    if (operator === "Exists") return value !== undefined;
    if (operator === "DoesNotExist") return value === undefined;
    if (operator === "In") return value !== undefined && values.includes(value);
    return value === undefined || !values.includes(value); // NotIn holds where the label is absent: labels.Requirement
  });
}

/** Tests whether one of the selectors holds. An empty list holds for all labels, as in MetalLB. */
export function anySelects(selectors: readonly LabelSelector[], labels: Labels): boolean {
  return selectors.length === 0 || selectors.some((selector) => selects(selector, labels));
}

/** Finds the fault in a requirement that Kubernetes refuses (LabelSelectorAsSelector); undefined: it is valid. */
export function fault({ operator, values }: Requirement): string | undefined {
  const takesValues = operator === "In" || operator === "NotIn";
  if (takesValues && values.length === 0) return `operator ${operator} needs values`;
  if (!takesValues && values.length > 0) return `operator ${operator} takes no values`;
  return undefined;
}

/** The labels on which the selectors depend. */
export const labelsIn = (selectors: readonly LabelSelector[]): string[] =>
  selectors.flatMap(({ matchLabels, matchExpressions }) => [
    ...Object.keys(matchLabels),
    ...matchExpressions.map(({ key }) => key),
  ]);
